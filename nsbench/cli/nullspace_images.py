"""`nsbench nullspace watermark, disguise, attention, fingerprint`: commands parse, call and print; nothing else.

They are added to the group that nullspace.py makes, which is imported from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click import option

from nsbench.cli.nullspace_noise import nullspace
from nsbench.cli.options import bench_options
from nsbench.errors import UsageError

__all__ = ["nullspace"]
PICTURES = click.Path(path_type=Path)
LIMIT = click.IntRange(min=1)
METHODS = ("rollout", "grad_cam", "attention_relevance", "relevance_propagation")


def space_options(command: Any) -> Any:
    """Which nullspace, and whether pixels stay valid."""
    for decorator in (
        option("--tolerance", type=float, help="Relative; decides the numerical rank. Default: as numpy's."),
        option("--per-channel", is_flag=True, help="Each channel's nullspace by itself, as in equation 12; smaller."),
        option("--unbounded", is_flag=True, help="Closed form; pixels may leave [0, 1]."),
        option("--ready", is_flag=True, help="Pictures have the model's input size: never resize them."),
        option("--save", type=click.Path(path_type=Path, file_okay=False), help="Write the pictures there as PNG."),
    ):
        command = decorator(command)
    return command


@nullspace.command()
@bench_options
@option("--tolerance", type=float, default=1e-5, show_default=True, help="A condition holds below this defect or sine.")
def attention(tolerance: float, **options: Any) -> None:
    """Proposition 1: symmetry, containment and colinearity of every attention head, and what the least seen
    direction does to the layer's output."""
    from nsbench.laboratory.attention import attention_sheet
    from nsbench.laboratory.pictures import open_pictures

    attention_sheet(open_pictures((), needs_data=False, **options), tolerance=tolerance)


@nullspace.command()
@click.argument("pictures", nargs=-1, type=PICTURES)
@option("--text", help="The mark is this text; a line break is written \\n.")
@option("--mark", "mark_file", type=PICTURES, help="The mark is this picture; its transparency is respected.")
@option("--width", type=float, default=0.9, show_default=True, help="Width of the mark, share of the image.")
@option("--opacity", type=float, default=1.0, show_default=True)
@option("--position", default="centre", show_default=True, help="centre, top, bottom-right, ...")
@option("--hatched", is_flag=True, help="Fill the mark with a checkerboard of pixels, which the nullspace holds best.")
@option("--limit", type=LIMIT, default=100, show_default=True, help="At most so many pictures.")
@option("--show", "shown", type=LIMIT, default=3, show_default=True, help="So many of them in the figure.")
@space_options
@bench_options
def watermark(
    pictures: tuple[Path, ...],
    text: str | None,
    mark_file: Path | None,
    width: float,
    opacity: float,
    position: str,
    hatched: bool,
    limit: int,
    shown: int,
    ready: bool,
    unbounded: bool,
    **options: Any,
) -> None:
    """Put a text or a picture on images so that the model does not notice (appendix E, equation 12).

    PICTURES are files and folders; without any, images of --data are taken.
    """
    if (text is None) == (mark_file is None):
        raise UsageError("a watermark is either --text WORDS or --mark PICTURE; give one of them")
    from nsbench.laboratory.pictures import open_picture, open_pictures, read_images
    from nsbench.laboratory.watermark import watermark_sheet
    from nsbench.nullspace.watermark import picture_mark, text_mark

    space = {key: options.pop(key) for key in ("tolerance", "per_channel", "save")}
    bench = open_pictures(pictures, **options)
    look: dict[str, Any] = {"width": width, "opacity": opacity, "position": position, "hatched": hatched}
    side = bench.model.input_size
    mark = (
        picture_mark(open_picture(mark_file), side, **look)
        if mark_file
        else text_mark(str(text).replace("\\n", "\n"), side, **look)
    )
    watermark_sheet(bench, read_images(bench, limit, ready=ready), mark, bounded=not unbounded, shown=shown, **space)


@nullspace.command()
@option("--source", "sources", type=PICTURES, multiple=True, help="A picture or a folder; may be given repeatedly.")
@option("--target", "targets", type=PICTURES, multiple=True, help="What they are to look like, in the same order.")
@option("--pairs", type=LIMIT, default=2, show_default=True, help="Without pictures: so many pairs of --data.")
@option("--saliency", "methods", default=",".join(METHODS), show_default=True, help="Comma-separated.")
@option("--show", "shown", type=LIMIT, default=2, show_default=True, help="So many pairs in the figure.")
@space_options
@bench_options
def disguise(
    sources: tuple[Path, ...],
    targets: tuple[Path, ...],
    pairs: int,
    methods: str,
    shown: int,
    ready: bool,
    unbounded: bool,
    **options: Any,
) -> None:
    """Make source images look like targets inside the nullspace: class and saliency maps stay the source's
    (appendix F)."""
    if bool(sources) != bool(targets):
        raise UsageError("give both --source and --target, or neither to take pairs of --data")
    from nsbench.laboratory.disguise import disguise_sheet, split_pairs
    from nsbench.laboratory.pictures import open_pictures, picture_paths, read_images

    space = {key: options.pop(key) for key in ("tolerance", "per_channel", "save")}
    paths = (picture_paths(sources), picture_paths(targets))
    bench = open_pictures([*paths[0], *paths[1]], **options)
    images = read_images(bench, sum(map(len, paths)) or 2 * pairs, ready=ready)
    disguise_sheet(
        bench,
        *split_pairs(images, len(paths[0]) or None),
        bounded=not unbounded,
        shown=shown,
        methods=tuple(filter(None, methods.split(","))),
        **space,
    )


@nullspace.command()
@click.argument("pictures", nargs=-1, type=PICTURES)
@option(
    "--suspect",
    "suspects",
    multiple=True,
    metavar="[MODEL=]FILE",
    help="Weights to verify; of the owner's architecture, or of MODEL. May be given repeatedly.",
)
@option(
    "--independent",
    multiple=True,
    metavar="[MODEL=]FILE",
    help="Weights that certainly are not the owner's: what a suspect must stand out from.",
)
@option("--limit", type=LIMIT, default=100, show_default=True, help="Images of the fingerprint.")
@option("--strength", type=float, default=0.25, show_default=True, help="Largest change of a pixel, [0, 1].")
@option("--noises", type=LIMIT, default=4, show_default=True, help="Different noises; image i carries noise i mod N.")
@option("--decoys", type=LIMIT, default=99, show_default=True, help="The least p is 1 / (decoys + 1).")
@option("--alpha", type=float, default=0.01, show_default=True, help="Both p-values must not exceed it.")
@option("--tolerance", type=float, help="Relative; decides the numerical rank. Default: as numpy's.")
@option("--ready", is_flag=True, help="Pictures have the model's input size: never resize them.")
@option("--save", type=click.Path(path_type=Path, file_okay=False), help="Write the fingerprint's pictures there.")
@bench_options
def fingerprint(
    pictures: tuple[Path, ...],
    suspects: tuple[str, ...],
    independent: tuple[str, ...],
    limit: int,
    ready: bool,
    **options: Any,
) -> None:
    """Verify whether suspects share --model's patch embedding (section 6, "model patenting").

    PICTURES are files and folders; without any, images of --data are taken.
    """
    from nsbench.laboratory.fingerprint import fingerprint_sheet, named_models
    from nsbench.laboratory.pictures import open_pictures, read_images

    settings = {key: options.pop(key) for key in ("strength", "noises", "decoys", "alpha", "tolerance", "save")}
    bench = open_pictures(pictures, **options)
    known = (named_models(bench, suspects), named_models(bench, independent))
    fingerprint_sheet(bench, read_images(bench, limit, ready=ready), *known, **settings)
