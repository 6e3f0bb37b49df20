"""Pictures that lie inside a set and are not read: loose beside the class folders, nested in them, of another format.

A set that is half prepared would otherwise be evaluated on the rest in silence. What is a picture is told by its first
bytes as well as by its name.
"""

from __future__ import annotations

from collections.abc import Collection

from nsbench.data.image_ids import IMAGE_SUFFIXES
from nsbench.data.source import Split
from nsbench.data.trees import Tree

OTHER_SUFFIXES = (".gif", ".jp2", ".heic", ".heif", ".avif", ".jxl", ".ppm", ".pgm", ".tga", ".psd", ".jpe", ".jfif")
NO_PICTURES = (".txt", ".csv", ".json", ".md", ".xml", ".mat", ".py", ".html", ".log", ".pdf", ".npy", ".npz", ".toml",
               ".yaml", ".yml", ".tar", ".zip", ".gz", ".db", ".ini", ".sh", ".rst", ".parquet", ".arrow")  # fmt: skip
FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP")
MOST = 10_000  # names that are kept: what matters is that there are any


def unread_pictures(tree: Tree, read: Collection[str]) -> tuple[str, ...]:
    """Names of pictures anywhere in the tree that are not among those that were `read`, sorted."""
    found: list[str] = []
    for name in tree.walk():
        if name not in read and _is_picture(tree, name):
            found.append(name)
            if len(found) == MOST:
                break
    return tuple(sorted(found))


def unread_words(split: Split) -> str:
    """What a person is told of pictures of this split that are not read; "" where there are none."""
    if not split.unread:
        return ""
    count = len(split.unread)
    many = f"{count:,} or more pictures" if count == MOST else f"{count:,} pictures" if count > 1 else "1 picture"
    return (
        f"{many} inside '{split.name}' not read, such as {split.unread[0]}: is the set half prepared, or is this a format "
        "that is not known?"
    )


def _is_picture(tree: Tree, name: str) -> bool:
    lower = name.lower()
    if lower.endswith((*IMAGE_SUFFIXES, *OTHER_SUFFIXES)):
        return True
    if lower.endswith(NO_PICTURES):
        return False
    start = tree.head(name)
    return start.startswith(FIRST_BYTES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
