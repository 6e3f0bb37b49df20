"""Results on their way to a public leaderboard: packed into one archive, checked as a stranger's, merged.

An archive is a zip that holds `manifest.json` and `results/<source>/<model>/<method>/<suite>.seed<k>.json` with its
outcomes beside it: `.parquet`, or `.npz` of results of schema 1. The manifest has the SHA-256 of every file; the
SHA-256 of the manifest is the archive's digest, by which it can be named in public. Pictures beside the results do not
travel: a stranger's are never shown. Files are stored uncompressed in the order of their names with one fixed date, so
the same results give the same bytes on every machine.
"""

from nsbench.submission.archive import Archive, Limits, open_archive
from nsbench.submission.check import Checked, Rerun, check_archive, needed, sample
from nsbench.submission.merge import Merged, merge
from nsbench.submission.pack import Packed, pack
from nsbench.submission.rerun import Rerunner

__all__ = [
    "Archive",
    "Checked",
    "Limits",
    "Merged",
    "Packed",
    "Rerun",
    "Rerunner",
    "check_archive",
    "merge",
    "needed",
    "open_archive",
    "pack",
    "sample",
]
