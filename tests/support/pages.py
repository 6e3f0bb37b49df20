"""The pages that people read, README and docs: their blocks of code, commands and links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

from nsbench.cli import main

REPOSITORY = Path(__file__).parents[2]
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
FRONT = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*FRONT, REPOSITORY / "reports" / "README.md", REPOSITORY / "baselines" / "published" / "README.md", *DOCS]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    language: str
    code: str

    @property
    def name(self) -> str:
        """Of what it registers or defines, for a Python file."""
        found = re.search(r"^def (\w+)\(", self.code, re.MULTILINE)
        return found[1] if found else ""


def named(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def blocks(language: str, page: Path | None = None) -> list[Block]:
    """Of one page, or of all."""
    pages = [page] if page else PAGES
    return [block for one in pages for block in _blocks(one) if block.language == language]


def _blocks(page: Path) -> list[Block]:
    return [Block(page, language, code) for _, language, code in FENCE.findall(page.read_text())]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return FENCE.sub("", page.read_text())


def console_lines(page: Path) -> list[str]:
    """The commands of its console blocks, each on one line and without its comment."""
    lines = []
    for block in blocks("console", page):
        for line in re.sub(r"\\\n *", " ", block.code).splitlines():
            if line.startswith("$ "):
                lines.append(re.sub(r"\s+# .*$", "", line[2:]))
    return lines


def nsbench_commands(line: str) -> list[list[str]]:
    """The words after each `nsbench` of a shell line."""
    found = []
    for part in re.split(r"&&|;|\|", line):
        words = shlex.split(part)
        if words and words[0] == "torchrun" and "nsbench" in words:
            words = words[words.index("nsbench") :]
        if words and words[0].rpartition("/")[2] == "nsbench":
            found.append(words[1:])
    return found


def command_of(words: list[str]) -> tuple[click.Command, list[str], str]:
    """The click command, what it is given, and its name."""
    command: click.Command = main
    names, rest = [], list(words)
    while rest and isinstance(command, click.Group) and rest[0] in command.commands:
        command = command.commands[rest[0]]
        names.append(rest.pop(0))
    assert names, f"nsbench {' '.join(words)}: is no command"
    return command, rest, " ".join(names)


def parsed(words: list[str]) -> dict[str, object]:
    """What the command's function would be called with, its values checked. Raises click.UsageError.

    Nothing is run, and no file has to exist.
    """
    command, rest, name = command_of(words)
    context = click.Context(command, info_name=name)
    opened, _, _ = command.make_parser(context).parse_args(args=rest)
    given = {name: value for name, value in opened.items() if value is not None and "UNSET" not in str(value)}
    for parameter in command.params:
        value = given.get(parameter.name or "")
        if value is not None and not isinstance(parameter.type, click.Path | click.File):
            parameter.type_cast_value(context, value)
        elif parameter.required and value is None:
            raise click.MissingParameter(ctx=context, param=parameter)
    return given


def all_options() -> set[str]:
    """Of every command."""
    found: set[str] = {"--help", "--version"}
    waiting: list[click.Command] = [main]
    while waiting:
        command = waiting.pop()
        waiting += command.commands.values() if isinstance(command, click.Group) else []
        found |= {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    return found


def heading_ids(page: Path) -> set[str]:
    """Anchors, as GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
