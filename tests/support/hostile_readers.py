"""Every reader of files that others may have written or broken: how a whole file is made, and what is read of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers import (
    as_flat_tar,
    as_json_shards,
    as_parquet,
    as_saved,
    as_shards,
    as_tar,
    as_zip,
)
from hostile_data import (
    a_set,
    config,
    devkit,
    kept_index,
    kept_manifest,
    kept_split,
    picture,
    read_config,
    read_devkit,
    read_kept_index,
    read_kept_manifest,
    read_kept_split,
    read_pages,
    read_picture,
    read_set,
    read_study,
    read_transfer_picture,
    sheet,
    study,
    transfer_picture,
)
from hostile_models import (
    fitted,
    npz_weights,
    odd_setting,
    pth,
    read_fitted,
    read_settings,
    read_state,
    read_tensors,
    read_weights,
    safetensors,
    settings,
    training_state,
)
from hostile_results import (
    baseline,
    jobs_of,
    npz,
    odd_and_sealed,
    old_json,
    other_arrays,
    other_member,
    other_table,
    parquet,
    read_board,
    read_changed_outcomes,
    read_entries,
    read_jobs_folder,
    read_pictures,
    read_submission,
    result_json,
    samples_zip,
    submission,
)
from mutations import BYTES, Mutation, odd_field, odd_word

from nsbench.data.decode import FORMATS

Figure = Any  # what came out: equal where nothing of weight changed


@dataclass(frozen=True)
class Reader:
    """One kind of file. `read` gives the figure that comes out, or raises an NsbenchError."""

    name: str
    make: Callable[[Path], Path]  # writes whole files to a folder; returns the one that is changed
    read: Callable[[Path], Figure]
    mutations: tuple[Mutation, ...] = BYTES
    sealed: bool = False  # a digest or checksum guards it: what is read is what was written, or an error


TREE = 'root = "."\nname = "mine"\nsurrogate = "vit_shapes10"\nsketch = "val"\n[classes]\nclean = "present"\n'
FLAT = """
clean = "flat/ILSVRC2012_img_val.tar"
[labels]
clean = "flat/ILSVRC2012_img_val.txt"
[classes]
clean = "present"
"""
WORDS = (odd_word, odd_word, odd_word, *BYTES)
FIELDS = (odd_field, odd_field, odd_field, *BYTES)
READERS = (
    Reader("result", result_json, read_board, FIELDS, sealed=True),
    Reader("old result", old_json, read_board, FIELDS, sealed=True),
    Reader("parquet", parquet, read_board, sealed=True),
    Reader("parquet, digest repaired", parquet, read_changed_outcomes, (other_table, other_table, *BYTES)),
    Reader("npz", npz, read_board, sealed=True),
    Reader("npz, digest repaired", npz, read_changed_outcomes, (other_arrays, other_arrays, *BYTES)),
    Reader("samples", samples_zip, read_pictures, (other_member, other_member, *BYTES)),
    Reader("submission", submission, read_submission, (other_member, *BYTES)),
    Reader("baseline", baseline, read_entries, FIELDS, sealed=True),
    Reader("baseline, digest repaired", baseline, read_entries, (odd_and_sealed,)),
    Reader("command of jobs", jobs_of("command"), read_jobs_folder, FIELDS),
    Reader("book of jobs", jobs_of("jobs.jsonl"), read_jobs_folder),
    Reader("pth", pth, read_weights),
    Reader("safetensors", safetensors, read_weights),
    Reader("npz weights", npz_weights, read_tensors, (other_arrays, *BYTES)),
    Reader("training state", training_state, read_state, sealed=True),
    Reader("fitted card", fitted, read_fitted, FIELDS, sealed=True),
    Reader("recipe settings", settings, read_settings, (odd_setting,)),
    Reader("study", study, read_study, WORDS),
    Reader("config of a tree", config(TREE), read_config, WORDS),
    Reader("config of a flat set", config(FLAT), read_config, WORDS),
    Reader("labels of a flat set", a_set(as_flat_tar, "*.txt"), read_set, WORDS),
    Reader("meta.mat of the devkit", devkit, read_devkit),
    Reader("tar", a_set(as_tar, "*.tar"), read_set),
    Reader("zip", a_set(as_zip, "*.zip"), read_set),
    Reader("shards", a_set(as_shards, "*.tar"), read_set),
    Reader("shards with JSON", a_set(as_json_shards, "*.tar"), read_set),
    Reader("parquet table", a_set(as_parquet, "*.parquet"), read_set, (other_table, *BYTES)),
    Reader("arrow table", a_set(as_saved, "*.arrow"), read_set),
    Reader("state of a saved folder", a_set(as_saved, "state.json"), read_set, FIELDS),
    Reader("index in the cache", kept_index, read_kept_index, sealed=True),
    Reader("manifest in the cache", kept_manifest, read_kept_manifest, sealed=True),
    Reader("split in the cache", kept_split, read_kept_split, sealed=True),
    Reader("transfer picture in the cache", transfer_picture, read_transfer_picture, sealed=True),
    *(Reader(f"picture, {kind}", picture(kind), read_picture) for kind in FORMATS),
    Reader("sheet of the laboratory", sheet, read_pages, FIELDS),
)
