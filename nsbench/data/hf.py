"""`hf:owner/name[@revision]`: a data set of the Hugging Face hub, from the local cache where it is there.

Only its files are fetched, never its code, and they are read as any other folder of tables, shards or pictures. Terms that
have to be accepted (ImageNet's, say) are for a person to accept: a gated set is named and not fetched.
https://huggingface.co/docs/huggingface_hub
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from nsbench.errors import DataError, UsageError
from nsbench.progress import SILENT, Progress

SPEC = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
UNREAD = ["*.py", "*.md", ".gitattributes"]  # of a repository, what no set consists of


def dataset_folder(spec: str, progress: Progress = SILENT) -> Path:
    """The folder of "owner/name" or "owner/name@revision" in the cache, fetched where it is not there.

    Raises UsageError for another form, DataError where it cannot be had, in one line.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if not SPEC.fullmatch(spec):
        raise UsageError(f"hf:{spec}: give hf:owner/name or hf:owner/name@revision")
    name, _, revision = spec.partition("@")
    fetch = partial(
        snapshot_download, name, repo_type="dataset", revision=revision or None, ignore_patterns=UNREAD, dry_run=False
    )
    try:
        return Path(fetch(local_files_only=True))
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            where = f"is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set"
            raise DataError(f"hf:{spec}: {where}") from error
    try:
        found = HfApi().dataset_info(name, revision=revision or None, files_metadata=True)
        size = sum(one.size or 0 for one in found.siblings or ())
        progress.line(f"hf:{spec}: fetching {size / 1e9:.2f} GB into {constants.HF_HUB_CACHE}")
        return Path(fetch())
    except GatedRepoError as error:
        raise DataError(
            f"hf:{spec}: its terms have to be accepted by a person: at https://huggingface.co/datasets/{name}, then "
            "'hf auth login', and run again"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise DataError(f"hf:{spec}: the hub has no such data set or revision; correct the name") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"hf:{spec}: cannot be fetched ({why}); fetch it where there is a network with 'hf download --repo-type "
            f"dataset {name}', and copy the folder datasets--{name.replace('/', '--')} to {constants.HF_HUB_CACHE}"
        ) from error
