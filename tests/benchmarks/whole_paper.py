"""The plan of the whole paper on ImageNet, worked out without its images: the tables of docs/scale.md.

    python tests/benchmarks/whole_paper.py --rates 3000,1000,900

`--rates`: images/s forward, forward and back to the image, and in training, as a dry run prints them for a device.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from nsbench import registry
from nsbench.data import DataSource, Split
from nsbench.errors import MissingSplit
from nsbench.making.expected import EXPECTED, READY_SIDE, expected
from nsbench.models.untrained import untrained_model
from nsbench.progress import SILENT, Progress, duration
from nsbench.run.cost import Work
from nsbench.run.job import Job
from nsbench.run.options import RunOptions
from nsbench.run.plan import Plan, plan_of
from nsbench.run.throughput import Throughput
from nsbench.training import load_recipe
from nsbench.types import Passes

METHODS = (
    *("pretrained", "finetune", "ns", "random_noise", "mixup", "randaugment", "pr", "randaugment_pr"),
    *("augmix", "augmix_pr", "sam", "robustvit", "madry", "trades"),
)
WORKERS = (1, 2, 8, 14, 64)


class Counted(Split):
    """A set of which only the number of images is known."""

    side = READY_SIDE

    def __init__(self, name: str) -> None:
        n, classes = expected(name).images, expected(name).classes
        self.name, self.ids, self.labels = name, np.arange(n).astype(str), np.arange(n) % classes

    def load(self, index: int) -> Image.Image:
        raise NotImplementedError("there are no images")

    @property
    def digest(self) -> str:
        return f"{len(self)} images of {self.name}"


class PublishedSizes(DataSource):
    """ImageNet's sets, as large as they were published."""

    name, title, class_names = "imagenet sizes", "ImageNet by its sizes", [str(k) for k in range(1000)]

    def splits(self) -> list[str]:
        return list(EXPECTED)

    def split(self, name: str, progress: Progress = SILENT) -> Split:
        if name.partition("/")[0] not in EXPECTED:
            raise MissingSplit(f"{name}: has no published size")
        return _counted(name)


@cache
def _counted(name: str) -> Counted:
    return Counted(name)


def whole_plan(model: str, rates: tuple[float, float, float]) -> Plan:
    registry.load_content()
    suites = sorted((one for one in registry.suites.values() if one.paper), key=lambda one: one.order)
    forward, back, training = (1 / rate for rate in rates)
    with TemporaryDirectory() as folder:
        options = RunOptions(
            METHODS, tuple(one.name for one in suites), results=Path(folder), weights=Path(folder), batch_size=256
        )
        network = untrained_model(model)
        job = Job(options, PublishedSizes(), network, "", load_recipe("paper"), "cpu", SILENT, 0)
        return plan_of(job, throughput=Throughput("stated", forward, back - forward, training))


def words(plan: Plan, work: Work) -> str:
    return duration(plan.seconds(work) or 0.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rates", default="3000,1000,900")
    parser.add_argument("--model", default="vit_small_patch16_224")
    given = parser.parse_args()
    forward, back, training = map(float, given.rates.split(","))
    plan = whole_plan(given.model, (forward, back, training))
    print("| suite | images | forward, at most | backward, at most | time, at most |\n|---|---:|---:|---:|---:|")
    for one in plan.pairs[: len(plan.pairs) // len(METHODS)]:
        assert one.cost, one
        passes = one.cost.passes
        title, time = registry.suites[one.pair.suite].title, words(plan, one.most)
        print(f"| {title} | {one.cost.images:,} | {passes.forwards:,.0f} | {passes.backwards:,.0f} | {time} |")
    print("\n| training | as much as forward passes | time, at most |\n|---|---:|---:|")
    for fit in plan.fits.values():
        assert fit.cost, fit
        least, most = fit.cost.least.forward_equivalents, fit.cost.most.forward_equivalents
        many = f"{most:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
        print(f"| `{fit.method}` | {many} | {words(plan, fit.most)} |")
    pairs = sum((one.cost.passes for one in plan.pairs if one.cost), Passes())
    print(f"\nevaluations: {pairs.forwards:,.0f} forward and {pairs.backwards:,.0f} backward passes")
    print(f"trainings: at most {sum(one.most.forward_equivalents for one in plan.fits.values()):,.0f} forward passes")
    longest = plan.longest()
    assert longest
    print(f"in all {words(plan, plan.work)}; the longest chain, {longest.pair}: {words(plan, longest.work)}")
    for workers in WORKERS:
        print(f"{workers} workers: no less than {duration(plan.seconds_with(workers) or 0.0)}")
    print(f"{plan.bytes_of_weights / 1e9:.2f} GB of weights, {plan.bytes_of_results / 1e9:.2f} GB of results")


if __name__ == "__main__":
    main()
