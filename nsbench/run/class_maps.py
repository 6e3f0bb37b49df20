"""`--class-map FILE|NAME`: what the outputs of a model's head mean, in words that a data source knows.

A name is one of NAMES. A file is one of
- text, timm's class map: a wnid or name a line, in the order of the head; an empty line is an output of no class;
- JSON: a list of names in the order of the head, or {"0": name, ...}; in place of a name a class number of the source,
  or a list of names of which the first known one counts (Keras's imagenet_class_index.json);
- CSV: `index,class` a row, with or without a head.

Outputs whose name the source does not know are left out: of 21,843 a model for ImageNet-1k needs 1,000.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nsbench.data import DataSource, wnids
from nsbench.data.source import SetClasses
from nsbench.errors import NsbenchError, UsageError
from nsbench.files import expanded, read_regular
from nsbench.models import Model
from nsbench.models.class_map import Assignment, ClassMap, require_outputs
from nsbench.models.subset import view_of

LARGEST = 1 << 24  # bytes of a file: 21,843 lines with long names take 1 MB
SEVERAL = -1  # in place of a label, of a name that two classes have, such as "crane"
Names = Sequence[str | int]  # of one output, the first known one counts; none: an output of no class


def _only(split: str) -> list[Names]:
    """The head of a model for the 200 classes of ImageNet-A or R, in the order of their wnids."""
    return [(wnids.wnids()[label],) for label in wnids.subset(split) or ()]


NAMES: dict[str, tuple[str, Callable[[], list[Names]]]] = {
    "imagenet-1k": ("ImageNet's 1000 wnids in order", lambda: [(one,) for one in wnids.wnids()]),
    "imagenet-1001": ("background, then the 1000", lambda: [(), *((one,) for one in wnids.wnids())]),
    "imagenet-a": ("the 200 classes of ImageNet-A, by wnid", lambda: _only("a")),
    "imagenet-r": ("the 200 classes of ImageNet-R, by wnid", lambda: _only("r")),
}


def mapped(model: Model, spec: str, by: str, source: DataSource) -> Model:
    """The model with logits over the classes of the source; `model.said` tells how.

    Raises UsageError for a map that cannot be read or names none of the source's classes, and ModelError where it is of
    another head.
    """
    outputs = int(model.vit.num_classes)
    name, meanings = _meanings(spec, outputs)
    known = _labels(source)
    class_of = tuple(_first_known(names, known, len(source.class_names)) for names in meanings)
    class_map = ClassMap(Assignment(name, class_of, len(source.class_names), by))
    require_outputs(class_map, outputs, model.name)
    model.class_map = class_map.to(model.device)
    model.said = (*model.said, *_words(class_map.assignment, source))
    return model


def for_classes(model: Model, classes: SetClasses) -> Model:
    """The model with logits over the classes of a set; its weights are shared, and it stays as it is.

    Raises UsageError where its own outputs are brought together in another way than the set's classes.
    """
    before = model.class_map.assignment if model.class_map else None
    if before and before.by != classes.by and len(set(before.class_of)) < len(before.class_of):
        raise UsageError(
            f"--class-map-by {before.by}: this set brings classes together by {classes.by}; give the same for both"
        )
    own = before.class_of if before else tuple(range(model.num_classes))
    class_of = tuple(None if one is None else classes.of[one] for one in own)
    made = view_of(model)
    made.class_map = ClassMap(Assignment("the set's", class_of, len(classes.names), classes.by)).to(model.device)
    return made


def _words(assignment: Assignment, source: DataSource) -> list[str]:
    missing = assignment.without
    if not missing:
        return [assignment.words()]
    some = ", ".join(str(source.class_names[one]) for one in missing[:2])
    return [assignment.words(), f"images of the {len(missing)} classes without an output ({some}, ...) are never right"]


def _labels(source: DataSource) -> dict[str, int]:
    """Class name -> label; for ImageNet's classes their names in English, too."""
    known = {str(name): label for label, name in enumerate(source.class_names)}
    if tuple(source.class_names) == wnids.wnids():
        for label, name in enumerate(wnids.names()):
            known[name] = SEVERAL if name in known else label
    return known


def _first_known(names: Names, known: Mapping[str, int], classes: int) -> int | None:
    for name in names:
        if (label := known.get(str(name))) is not None:
            if label == SEVERAL:
                raise UsageError(f"--class-map: '{name}' is the name of several of ImageNet's classes; give wnids")
            return label
        if str(name).isdecimal() and int(name) < classes:
            return int(name)
    return None


def _meanings(spec: str, outputs: int) -> tuple[str, list[Names]]:
    """The map's name, and what each output of the head is called."""
    if spec in NAMES:
        return spec, NAMES[spec][1]()
    path = expanded(spec)
    if not path.is_file():
        raise UsageError(f"--class-map {spec}: is neither a file nor one of {', '.join(NAMES)}")
    try:
        content = read_regular(path)
        if len(content) > LARGEST:
            raise ValueError("it is too long")
        read = READERS.get(path.suffix.lower(), _of_text)
        return path.name, read(content.decode("utf-8-sig"), outputs)
    except NsbenchError:
        raise
    except (OSError, ValueError, TypeError, RecursionError, csv.Error) as error:
        raise UsageError(
            f"--class-map {spec}: cannot be read ({str(error).splitlines()[0]}); give a name a line in the order of the "
            "head, or JSON or CSV of index and class"
        ) from error


def _of_text(content: str, outputs: int) -> list[Names]:
    """A line is a name, or begins with one: "n01440764 tench, Tinca tinca"."""
    lines = [line.strip() for line in content.rstrip("\n").split("\n")]
    return [(line, line.split()[0]) if line else () for line in lines]


def _of_json(content: str, outputs: int) -> list[Names]:
    found = json.loads(content)
    if isinstance(found, list):
        return [_names(one) for one in found]
    if not isinstance(found, dict):
        raise ValueError("it is neither a list nor an object")
    return _by_index([(key, _names(value)) for key, value in found.items()], outputs)


def _of_csv(content: str, outputs: int) -> list[Names]:
    rows = [row for row in csv.reader(content.splitlines()) if any(cell.strip() for cell in row)]
    if rows and not rows[0][0].strip().isdecimal():  # a head
        rows = rows[1:]
    return _by_index([(row[0], tuple(cell.strip() for cell in row[1:] if cell.strip())) for row in rows], outputs)


READERS = {".json": _of_json, ".csv": _of_csv}


def _by_index(pairs: Sequence[tuple[str, Names]], outputs: int) -> list[Names]:
    """Outputs that are not named stand for no class. Raises ValueError."""
    found: dict[int, Names] = {}
    for text, names in pairs:
        if not text.strip().isdecimal():
            raise ValueError(f"'{text[:40]}' is no index of an output")
        index = int(text)
        if index in found:
            raise ValueError(f"output {index} stands there twice")
        if index >= outputs:
            raise ValueError(f"output {index} is none of the model's {outputs}, 0 to {outputs - 1}")
        found[index] = names
    return [found.get(index, ()) for index in range(outputs)]


def _names(value: Any) -> Names:
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int) and not isinstance(one, bool) for one in values):
        raise ValueError(f"{str(value)[:40]} is no name of a class")
    return tuple(values)
