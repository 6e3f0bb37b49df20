"""What is killed in the campaign: every command that writes, in a folder of its own, and what must be there after it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
from forks import Ended, Forks, Job
from PIL import Image
from safetensors.torch import save_file

from nsbench.data import wnids
from nsbench.regression import read_baseline
from nsbench.results import Result, outcomes_path, read_outcomes, read_results, samples_path, write_result

PRETRAINED = "run --method pretrained --suite clean,fgsm --limit 8 --results results"
SHORT = "--set rounds=2 --set steps_per_round=1 --set batch_size=4"
PACK = "submit pack --results results --out x.zip"
SMALL = "mobilenetv3_small_050"  # 224 pixels, 1000 classes, 0.02 G multiplications
DIGEST = re.compile(r"\b[0-9a-f]{16}\b")


@dataclass(frozen=True)
class Case:
    """A command, what must be there before it, and what it gives in words that are equal for equal outcomes."""

    name: str
    arguments: str
    facts: Callable[[Path], object]
    before: Sequence[str] = ()  # commands
    prepare: Callable[[Path], None] = lambda folder: None  # behind these
    rerun: str = ""  # instead of the command, after a kill
    few: int = 1  # in the short campaign every so manieth moment is one of a kill


def listing(folder: Path) -> list[str]:
    """Every file, but for what was there to be read; digests of outcomes, which may be the former ones, are left out."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(DIGEST.sub("*", name) for name in found if not name.startswith(("cache/shapes10", "data/")))


def scores(folder: Path) -> list[tuple[object, ...]]:
    """Of every result, all of which must be whole: figures, weights, outcomes image by image, and that it has pictures."""
    results, problems = read_results(folder / "results")
    assert not problems, problems
    assert all(samples_path(one).is_file() for one in results)
    return [
        (one.suite, one.identity, one.score, one.provenance.weights_digest, _predictions(one))
        for one in sorted(results, key=lambda one: (one.suite, one.identity))
    ]


def _predictions(result: Result) -> list[tuple[str, list[int]]]:
    return [(name, one.predictions.tolist()) for name, one in read_outcomes(result).items()]


def contents(*names: str) -> Callable[[Path], object]:
    """Bytes of every file in these folders."""
    return lambda folder: {
        path.relative_to(folder): path.read_bytes()
        for name in names
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def trained(folder: Path) -> object:
    (weights,) = (folder / "cache" / "fitted").glob("*.safetensors")
    return scores(folder), weights.read_bytes()


def baseline(folder: Path) -> object:
    held = read_baseline(folder / "baseline.json")
    return [(one.suite, one.score, one.right_CN.tolist()) for one in held.entries], dict(held.options)


def other_bits(folder: Path) -> None:
    """The results as another number of threads would have left them: a float of every image differs in its last bits."""
    for one in read_results(folder / "results")[0]:
        pictures = samples_path(one).read_bytes()
        changed = {
            name: replace(mine, confidence=np.nextafter(mine.confidence, np.float32(0)) * np.float32(0.5))
            for name, mine in read_outcomes(one).items()
            if mine.confidence is not None
        }
        before = outcomes_path(one)
        assert outcomes_path(write_result(folder / "results", one, changed, pictures)) != before


def photographs(folder: Path) -> None:
    place = folder / "data" / "val" / wnids.wnids()[0]
    place.mkdir(parents=True)
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"ILSVRC2012_val_{k:08d}.JPEG")


def with_surrogate(folder: Path) -> None:
    photographs(folder)
    torch.manual_seed(0)
    save_file(timm.create_model(SMALL).state_dict(), folder / "data" / "small.safetensors")


CASES = [
    Case("run", PRETRAINED, scores, few=9),
    Case("run --force", f"{PRETRAINED} --force", scores, [PRETRAINED], other_bits, rerun=PRETRAINED, few=9),
    Case("training", f"run --method finetune --suite clean --limit 8 --results results {SHORT}", trained, few=11),
    Case(
        "baseline record",
        "baseline record --method pretrained --suite clean --limit 8 --repeats 0 --out baseline.json",
        baseline,
        few=10,
    ),
    Case("submit pack", PACK, contents("."), [PRETRAINED]),
    Case("submit merge", "submit merge x.zip --results board", contents("board"), [PRETRAINED, PACK], few=5),
    Case(
        "data make imagenet-c",
        "data make imagenet-c --data data --out made --workers 1 --corruptions fog,contrast --severities 3",
        contents("made"),
        prepare=photographs,
        few=4,
    ),
    Case("transfer set", "run --method pretrained --suite transfer --limit 4 --results results", scores, few=30),
    Case(
        "data make damagenet",
        f"data make damagenet --data data --out made --workers 1 --surrogate {SMALL} --checkpoint data/small.safetensors",
        contents("made"),
        prepare=with_surrogate,
        few=7,
    ),
    Case(
        "report",
        "report --results results --out out --format html,md,latex,csv,json,hf,badge",
        contents("out"),
        [PRETRAINED],
        few=6,
    ),
]


@dataclass
class Campaign:
    """Kills of one case: each in a fresh copy of what was there before, and the command again after it."""

    case: Case
    forks: Forks
    root: Path

    def __post_init__(self) -> None:
        self.trials = 0
        self.start = self._folder("start")
        for arguments in self.case.before:
            self._done(self.start, arguments)
        self.case.prepare(self.start)
        self.whole = self._copy("whole")
        ended = self._done(self.whole, self.case.arguments)
        self.moments, self.seconds = ended.events, ended.seconds
        self.expected = listing(self.whole), self.case.facts(self.whole)

    def kill(self, moment: int = 0, after: float | None = None) -> bool:
        """Killed at a moment or after some seconds, and run again: nothing is lost, wrong or left over.

        Returns whether it was killed: it may have ended before.
        """
        self.trials += 1
        folder = self._copy(f"trial{self.trials}")
        (ended,) = self.forks.run(Job(str(folder), self.case.arguments.split(), kill=moment, after=after))
        where = f"{self.case.name}, killed at moment {moment} or after {after} s: {listing(folder)}"
        assert ended.status == -9 or after is not None, f"{where}\n{ended.output}"
        again = self._done(folder, self.case.rerun or self.case.arguments, where)
        names, facts = listing(folder), self.case.facts(folder)
        assert names == self.expected[0], f"{where}\n{again.output}"
        assert facts == self.expected[1], f"{where}\n{again.output}"
        shutil.rmtree(folder)
        return ended.status == -9

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        (folder / "cache").mkdir(parents=True)
        (folder / "tmp").mkdir()
        (folder / "cache" / "shapes10").symlink_to(self.forks.cache / "shapes10")
        return folder

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.start, self.root / name, symlinks=True))

    def _done(self, folder: Path, arguments: str, where: str = "") -> Ended:
        (ended,) = self.forks.run(Job(str(folder), arguments.split()))
        assert ended.status == 0, f"{where}\n{arguments}: exit {ended.status}\n{ended.output}"
        return ended
