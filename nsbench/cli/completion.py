"""What a shell offers where a name is expected: methods, suites, models, recipes, sources (click's shell completion).

bash     eval "$(_NSBENCH_COMPLETE=bash_source nsbench)"
zsh      eval "$(_NSBENCH_COMPLETE=zsh_source nsbench)"
fish     _NSBENCH_COMPLETE=fish_source nsbench | source
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from nsbench import registry
from nsbench.errors import NsbenchError

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
FORM = re.compile(r"[A-Z]{4}|\[| ")  # a form such as OWNER/NAME, which is no name itself
GROUPS = ("all", "extended", "adversarial", "ood")  # of suites


def names(kind: str, *more: str, several: bool = False, file: str = "") -> Complete:
    """Names of this kind that begin with what was typed. `more`: other words that may stand there.

    `several`: a list with commas, and chains with "+", of which the last word is completed. `file`: "file" or "dir",
    which the shell completes where no name fits.
    """

    def complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        cut = 1 + max(typed.rfind(","), typed.rfind("+")) if several else 0
        before, word = typed[:cut], typed[cut:]
        found = [
            CompletionItem(before + name, help=about[:80] or None)
            for name, about in {**dict.fromkeys(more, ""), **dict(_known(kind))}.items()
            if name.startswith(word)
        ]
        return found or ([CompletionItem(typed, type=file)] if file else [])

    return complete


def _known(kind: str) -> Iterable[tuple[str, str]]:
    """Name and a line about it; nothing where the files that register them cannot be read."""
    from nsbench.cli.names import KINDS

    with suppress(NsbenchError):
        registry.load_content()
        return [
            (row["name"], row.get("title") or row["about"]) for row in KINDS[kind]() if not FORM.search(row["name"])
        ]
    return []


complete_methods = names("methods", "all", several=True)
complete_suites = names("suites", *GROUPS, several=True)
complete_models = names("models", "hf-hub:", "local-dir:", "torchvision:", "transformers:", "robustbench:", file="file")
complete_recipes = names("recipes")
complete_sources = names("sources", "folder:", "hf:", "torchvision:", file="dir")
complete_studies = names("studies", file="file")
