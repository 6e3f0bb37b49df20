"""Shape bias on pictures whose texture contradicts their shape (Geirhos et al. 2019, arXiv:1811.12231).

Of the decisions for the shape or for the texture, the share for the shape. The pictures are a set of a data config,
whose 16 classes are the set's own ("airplane1-bicycle2.png" has the shape of an airplane and the texture of a bicycle):

    [sets.cue_conflict]
    path = "cue_conflict"
    class_map = "sixteen_classes.json"
    class_map_by = "mean"
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

import nsbench as nb

CLASSES = sorted(json.loads((Path(__file__).parent / "sixteen_classes.json").read_text()))


def share_for_the_shape(outcomes):
    """Of pictures whose two cues differ and that are decided for one of them."""
    (seen,) = outcomes.values()
    texture = np.array([CLASSES.index(one.split("-")[1].rstrip("0123456789")) for one in seen.ids.tolist()])
    decided = (texture != seen.labels) & (seen.correct | (seen.predictions == texture))
    kept = nb.Outcomes(seen.ids[decided], seen.labels[decided], seen.predictions[decided])
    return replace(nb.accuracy({"decided": kept}), made_of=None)  # no mean over all images


@nb.suite(title="Shape bias", group="ood", score=share_for_the_shape, citation="Geirhos et al. 2019", paper=False)
def shape_bias() -> list[nb.Condition]:
    """Decisions for the shape among those for shape or texture, 16 classes by mean probability."""
    return [nb.Condition("cue conflict", split="cue_conflict")]
