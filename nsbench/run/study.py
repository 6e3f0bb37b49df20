"""Studies: methods x settings of the recipe x suites x seeds as one small TOML file, run and shown together."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nsbench.errors import UnknownName, UsageError
from nsbench.files import read_regular
from nsbench.training.recipe import LATER, Recipe

if TYPE_CHECKING:
    from nsbench.results import Provenance

FOLDER = Path(__file__).parent / "studies"


class Study(BaseModel):
    """One grid. Every setting is a run of its own, so a study can be interrupted and goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    methods: tuple[str, ...] = Field(min_length=1)
    suites: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = (0,)
    settings: tuple[dict[str, str | int | float], ...] = ({},)  # as `--set` gives them; one run for each
    published: str = ""  # file of baselines/published with the paper's figures

    @property
    def spelled(self) -> str:
        """As a command names it."""
        return self.name if self.name in known_studies() else f"{self.name}.toml"

    def texts(self) -> list[dict[str, str]]:
        """The settings as `--set` would give them."""
        return [{field: str(value) for field, value in setting.items()} for setting in self.settings]


def known_studies() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_study(name: str) -> Study:
    """A study by its name, or by the path of a TOML file. Raises UnknownName or UsageError naming what is wrong."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if path.parent == FOLDER and not os.path.isfile(path):
        raise UnknownName("study", name, known_studies())
    try:
        return Study(**(tomllib.loads(read_regular(path).decode("utf-8")) | {"name": path.stem}))
    except OSError as error:
        raise UsageError(f"--study {name}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"--study {name}: {where}: {first['msg']}") from error
    except (ValueError, TypeError, RecursionError) as error:  # TOMLDecodeError is a kind of ValueError
        raise UsageError(f"--study {name}: is no TOML file ({error})") from error


def fits(trained: Provenance, setting: Mapping[str, object]) -> bool:
    """Whether a result's recipe is this setting of a study; untrained rows fit every one, and a row any setting of
    another method's own."""
    recipe = trained.recipe
    if recipe is None:
        return True
    fields = {**LATER, "name": recipe.name, "seed": recipe.seed, **recipe.settings}
    own = {name: one.value for name, one in trained.own_settings.items()}
    wanted = {field: value for field, value in setting.items() if "." not in field}
    try:
        of_recipe = Recipe.model_validate(fields) == Recipe.model_validate(fields | wanted)
    except ValidationError:  # of another version, or a setting that cannot be
        of_recipe = all(str(fields.get(field)) == str(value) for field, value in wanted.items())
    return of_recipe and all(_same(own.get(field, value), value) for field, value in setting.items() if "." in field)


def _same(own: object, value: object) -> bool:
    """Whether a study's value, or the text of it, is that of a result: 1 is 1.0, and "1" is both."""
    if own == value or str(own) == str(value):
        return True
    try:
        return isinstance(own, int | float) and not isinstance(own, bool) and own == float(str(value))
    except ValueError:
        return False
