"""What can be named, with a line about each: for `nsbench list` and for a shell that completes words.

A row is a name and its facts by column, all of them text. Nothing here imports torch but `attacks`.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable

from nsbench import registry

Row = dict[str, str]


def suites() -> list[Row]:
    return [
        {"name": s.name, "group": s.group, "title": s.title, "citation": s.citation, "about": s.summary}
        for s in registry.ordered_suites()
    ]


def methods() -> list[Row]:
    """With the settings of their own, which `--set METHOD.NAME=VALUE` changes."""
    return [
        {
            "name": m.name,
            "title": m.title,
            "citation": m.citation,
            "settings": ", ".join(f"{name}={one.default}" for name, one in m.parameters.items()),
            "about": m.summary,
        }
        for m in registry.ordered_methods()
    ]


def models() -> list[Row]:
    """Models with names of their own, and the forms in which others are named."""
    from nsbench.models.catalogue import OWN_CODE, PLACES, catalogue

    known = [
        {
            "name": one.name,
            "family": one.family,
            "parameters": f"{one.parameters:g} M" if one.parameters else "",
            "input": f"{one.size} px" if one.size else "",
            "weights": one.weights,
            "about": one.note,
        }
        for one in catalogue()
    ]
    forms = [(place.form, place.what) for place in (*PLACES.values(), OWN_CODE)]
    forms = [("any timm name, with or without a tag", "timm's weights of that name, or --checkpoint FILE"), *forms]
    empty = {"family": "", "parameters": "", "input": "", "weights": ""}
    return [*known, *({"name": form, **empty, "about": what} for form, what in forms)]


def sources() -> list[Row]:
    rows = {
        "shapes10": "embedded: ten procedurally drawn shapes, every split, its own checkpoint",
        "FOLDER": "an ImageNet tree (val/<wnid>, train/<wnid>, imagenet-a, ...), or images of classes of your own",
        "folder:FOLDER": "images of classes of your own, even where they are called like ImageNet's",
        "FILE.toml": "a config file that names the sets where they lie",
        "hf:OWNER/NAME[@REVISION]": "a data set of the Hugging Face hub",
        "torchvision:NAME:ROOT": "a data set that torchvision reads, such as CIFAR10",
    }
    return [{"name": name, "about": about} for name, about in rows.items()]


def recipes() -> list[Row]:
    from nsbench.training.recipe import FOLDER, known_recipes

    return [{"name": name, "about": _head((FOLDER / f"{name}.toml").read_text())} for name in known_recipes()]


def studies() -> list[Row]:
    from nsbench.run.study import FOLDER, known_studies

    titles = {name: tomllib.loads((FOLDER / f"{name}.toml").read_text()) for name in known_studies()}
    return [{"name": name, "about": str(study.get("title", ""))} for name, study in titles.items()]


def attacks() -> list[Row]:
    """With their settings, which a condition of a suite may change."""
    import nsbench.attacks  # noqa: F401  (fills the registry of attacks)

    rows = []
    for one in sorted(registry.attacks.values(), key=lambda attack: attack.name):
        own = [
            f"{name}={parameter.default}"
            for name, parameter in one.parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
        ]
        doc = (inspect.getdoc(one.function) or "").partition("\n\n")[0]
        row = {"name": one.name, "library": one.facts.library or "", "loss": one.facts.loss or ""}
        rows.append(row | {"settings": ", ".join(own), "about": " ".join(doc.split())})
    return rows


def formats() -> list[Row]:
    from nsbench.report.tables.exports import ABOUT

    return [{"name": name, "about": about} for name, about in ABOUT.items()]


KINDS: dict[str, Callable[[], list[Row]]] = {
    "suites": suites,
    "methods": methods,
    "models": models,
    "sources": sources,
    "recipes": recipes,
    "studies": studies,
    "attacks": attacks,
    "formats": formats,
}


def _head(text: str) -> str:
    """The comment that a file begins with, as one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)
