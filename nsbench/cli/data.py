"""`nsbench data`: look at, check and make data sets. Commands parse, call and print; nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nsbench.cli.stopping import GOES_ON, when_stopped
from nsbench.errors import UnknownName, without_controls
from nsbench.files import importing

follow = click.option("--follow-links", is_flag=True, help="Links in the data may lead out of their set.")


@click.group()
def data() -> None:
    """Look at, check and make data sets."""


@data.command("show")
@click.argument("source", default="shapes10")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("sheet.png"), show_default=True)
def show(source: str, out: Path) -> None:
    """Draw samples of every split of SOURCE on one sheet."""
    if source != "shapes10":
        raise UnknownName("source with a sample sheet", source, ["shapes10"])
    from nsbench.progress import ConsoleProgress
    from nsbench.shapes10.sheet import write_sheet

    write_sheet(out, ConsoleProgress())
    click.echo(str(out))


@data.command("check")
@click.argument("path", type=click.Path(path_type=Path))
@follow
@click.option("--json", "as_json", is_flag=True, help="For programs instead of people.")
@click.option("--quick", is_flag=True, help="Count and check labels only; open no picture.")
@click.option("--model", help="A timm name: also compare accuracy with chance, which permuted labels would give.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Its weights.")
@click.option("--limit", type=click.IntRange(min=1), default=500, show_default=True, help="Images that the model sees.")
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True)
def check(
    path: Path,
    as_json: bool,
    quick: bool,
    model: str | None,
    checkpoint: Path | None,
    limit: int,
    workers: int,
    follow_links: bool,
) -> None:
    """Check the sets of an ImageNet tree: complete, labels in order, sizes right, every picture readable.

    Exit status: 0 all is well; 1 something needs attention.
    """
    from nsbench.progress import SILENT, ConsoleProgress

    with importing():
        from nsbench.making.check import check_sets
        from nsbench.models import load_model

    network = load_model(model, checkpoint=checkpoint) if model else None
    report = check_sets(
        path,
        model=network,
        limit=limit,
        read=not quick,
        workers=workers,
        follow_links=follow_links,
        progress=SILENT if as_json else ConsoleProgress(),
    )
    click.echo(without_controls(report.to_json() if as_json else report.to_text()))
    sys.exit(0 if report.ok else 1)


@data.command("get")
@click.argument("sets", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="The folder that --data is given later.")
def get(sets: tuple[str, ...], out: Path | None) -> None:
    """Fetch public sets, such as 'a r v2 sketch c', and check them. Without a name: list them with source and licence.

    Goes on where it was stopped. ImageNet itself, Stylized and DAmageNet are explained, not fetched.
    """
    from nsbench.making.published import EXPLAINED, SETS

    if not sets:
        for name, one in SETS.items():
            size = sum(file.size or 0 for file in one.files)
            told = f"{size / 1e9:.2f} GB" if size else ""
            click.echo(f"  {name:<18}{one.title:<32}{told:<10}{one.licence:<11}{one.source}")
        for name, words in EXPLAINED.items():
            click.echo(f"  {name:<18}not fetched: {words}")
        return
    from nsbench.errors import UsageError
    from nsbench.making.check import check_sets
    from nsbench.making.fetch import fetch
    from nsbench.progress import ConsoleProgress

    if out is None:
        raise UsageError("--out DIR: say where the sets shall lie, the folder that --data is given later")
    when_stopped(GOES_ON)
    progress = ConsoleProgress()
    for file in fetch(sets, out, progress):
        progress.line(f"{file.path}: {'held already' if file.held else 'fetched, its digest is right'}")
    report = check_sets(out, read=False)
    wanted = [found for found in report.sets if found.split.partition("/")[0] in sets]
    for problem in [f"{found.split}: {text}" for found in wanted for text in found.problems]:
        progress.line(problem, style="yellow")
    sys.exit(1 if any(found.problems for found in wanted) else 0)


@data.group()
def make() -> None:
    """Make data sets that cannot be downloaded."""


@make.command("imagenet-c")
@click.option("--data", "source", type=click.Path(path_type=Path), required=True, help="The ImageNet tree.")
@follow
@click.option("--from", "split", default="val", show_default=True, help="The split to corrupt.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--corruptions", help="Comma-separated. Default: the fifteen.")
@click.option("--severities", default="1,2,3,4,5", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Processes. Default: one per core. Moves no byte.")
@click.option(
    "--corruption-engine",
    "engine",
    type=click.Choice(["nsbench", "imagecorruptions"]),
    default="nsbench",
    show_default=True,
)
@click.option(
    "--img-size",
    "side",
    type=click.IntRange(min=8, max=2048),
    default=224,
    show_default=True,
    help="Pixels. Figures on a set of another size than 224 say so.",
)
def make_imagenet_c(
    source: Path,
    split: str,
    out: Path,
    corruptions: str | None,
    severities: str,
    workers: int | None,
    engine: str,
    side: int,
    follow_links: bool,
) -> None:
    """Make ImageNet-C in its official layout: Resize 256, crop 224, corrupt, JPEG of quality 85. Goes on where it
    was stopped."""
    from nsbench.corruptions import CORRUPTIONS
    from nsbench.errors import UsageError
    from nsbench.making.imagenet_c import make_imagenet_c as make_set
    from nsbench.progress import ConsoleProgress

    when_stopped(GOES_ON)
    names = tuple(filter(None, (corruptions or "").split(","))) or CORRUPTIONS
    if not all(part.strip().isdecimal() for part in severities.split(",")):
        raise UsageError(f"--severities {severities}: give numbers from 1 to 5, comma-separated")
    made = make_set(
        source,
        out,
        split=split,
        corruptions=names,
        workers=workers,
        engine=engine,
        side=side,
        follow_links=follow_links,
        severities=[int(part) for part in severities.split(",")],
        progress=ConsoleProgress(),
    )
    click.echo(without_controls(str(made)))
    sys.exit(1 if made.unreadable else 0)


@make.command("damagenet")
@click.option("--surrogate", required=True, help="The model to attack: a timm name of an ImageNet model at 224 pixels.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Its weights.")
@click.option("--data", "source", type=click.Path(path_type=Path), required=True, help="The ImageNet tree.")
@follow
@click.option("--from", "split", default="val", show_default=True, help="The split to attack.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--workers", type=click.IntRange(min=1), help="Processes. Default: one per core. Moves no byte.")
@click.option("--device", default="cpu", show_default=True, help="cpu, or cuda for one process on a GPU.")
def make_damagenet(
    source: Path,
    out: Path,
    surrogate: str,
    checkpoint: Path | None,
    split: str,
    workers: int | None,
    device: str,
    follow_links: bool,
) -> None:
    """Make a set like DAmageNet, l-inf 25/255, in its layout: <name>.png and val.txt. Goes on where it was stopped."""
    from nsbench.progress import ConsoleProgress

    with importing():
        from nsbench.making.damagenet import make_damagenet as make_set

    when_stopped(GOES_ON)
    made = make_set(
        source,
        out,
        surrogate=surrogate,
        checkpoint=checkpoint,
        split=split,
        workers=workers,
        device=device,
        follow_links=follow_links,
        progress=ConsoleProgress(),
    )
    click.echo(without_controls(str(made)))
    sys.exit(1 if made.unreadable else 0)
