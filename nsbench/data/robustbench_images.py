"""The 5,000 validation images of ImageNet that RobustBench evaluates (Croce et al. 2021, arXiv:2010.09670).

Which ones they are is read from the installed package `robustbench`, which is not imported for it.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from nsbench.data.image_ids import file_stem
from nsbench.data.source import Split, Subset
from nsbench.errors import DataError, MissingSplit

ROBUSTBENCH = "robustbench"  # the split
LIST = "helper_files/imagenet_test_image_ids.txt"  # lines such as n09468604/ILSVRC2012_val_00015253.JPEG


@cache
def stems() -> tuple[str, ...]:
    """Names of the files without their ending. Raises DataError where the package is not installed or lacks the list."""
    package = find_spec("robustbench")
    places = list(package.submodule_search_locations or ()) if package else []
    try:
        lines = (Path(places[0]) / LIST).read_text().split()
    except (IndexError, OSError) as error:
        raise DataError(
            f"robustbench: its list of images cannot be read ({error}); pip install 'robustbench>=1.1.1'"
        ) from error
    return tuple(file_stem(line.rpartition("/")[2]) for line in lines)


def robustbench_images(val: Split) -> Subset:
    """Those images of val, in its order. Raises MissingSplit unless all of them are there."""
    places = {file_stem(image_id): place for place, image_id in enumerate(val.ids.tolist())}
    absent = [stem for stem in stems() if stem not in places]
    if absent:
        raise MissingSplit(
            f"'{ROBUSTBENCH}' is {len(stems()):,} images of val, of which {len(absent):,} are not here, such as "
            f"{absent[0]}; copy the whole validation set"
        )
    split = Subset(val, np.sort([places[stem] for stem in stems()]))
    split.name = ROBUSTBENCH
    return split
