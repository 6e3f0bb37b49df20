"""Files of Hugging Face repositories: from the local cache where they are there, else downloaded into it.

The cache is huggingface_hub's own (HF_HOME, HF_HUB_CACHE), so what timm or transformers fetched is found, and what is
fetched here they find. A branch name means the commit that the cache holds of it, without asking the network again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from nsbench.errors import ModelError, UsageError

COMMIT = re.compile(r"[0-9a-f]{40}")


def parse_repository(name: str, written: str) -> tuple[str, str | None]:
    """ "owner/name@revision" -> ("owner/name", "revision"). Raises UsageError; `written` is what the user gave."""
    repository, _, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository) or ".." in repository:
        raise UsageError(f"model '{written}': write OWNER/NAME, or OWNER/NAME@REVISION, as on huggingface.co")
    return repository, revision or None


def fetch_first(repository: str, revision: str | None, files: tuple[str, ...], written: str) -> Path:
    """The first of these files that the repository has. Raises ModelError where it has none, or none is to be had.

    A file that is in the cache goes before one that would have to be downloaded.
    """
    for file in files:
        if path := cached(repository, revision, file):
            return path
    for file in files:
        if path := fetch(repository, revision, file, written):
            return path
    raise ModelError(f"model '{written}': {repository} has none of {', '.join(files)}")


def cached(repository: str, revision: str | None, file: str) -> Path | None:
    """Where the file lies in the cache; None where it does not."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, revision=revision)
    return Path(found) if isinstance(found, str) else None


def fetch(repository: str, revision: str | None, file: str, written: str) -> Path | None:
    """The file, with a bar where it is downloaded; None where the repository has no such file.

    Raises ModelError, which says what to fetch and where to put it, where it cannot be reached.
    """
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    found = try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(found, str):
        return Path(found)
    if found is _CACHED_NO_EXIST:  # the hub has said so before
        return None
    if offline():
        raise _absent(repository, revision, file, written, "HF_HUB_OFFLINE is set")
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except LocalEntryNotFoundError as error:  # also where there is no network
        raise _absent(repository, revision, file, written, _why(error.__cause__ or error)) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # of the hub, of its connections, of a full disk
        raise _absent(repository, revision, file, written, _why(error)) from error


def offline() -> bool:
    """HF_HUB_OFFLINE, when this process started or now."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def cache() -> Path:
    """Hugging Face's cache of repositories."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _absent(repository: str, revision: str | None, file: str, written: str, why: str) -> ModelError:
    wanted = " ".join(dict.fromkeys(("config.json", file, "model.safetensors")))
    at = f" --revision {revision}" if revision else ""
    instead = "" if ":" in written else ", or give --checkpoint FILE"
    return ModelError(
        f"model '{written}': {file} of {repository} is not in {cache()} and cannot be downloaded ({why}); where there is "
        f"a network, run 'hf download {repository} {wanted}{at}', and copy the folder "
        f"models--{repository.replace('/', '--')} into {cache()}{instead}"
    )


def _why(error: BaseException) -> str:
    """The first line of an error, shortened."""
    line = next((one.strip() for one in str(error).splitlines() if one.strip()), "")
    return f"{type(error).__name__}: {line[:120]}"
