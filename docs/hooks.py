"""What the site shows beside docs: the README is its first page, and links to files of the repository stay whole."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[1]
PAGES = {  # file of the repository -> page of the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "reports/README.md": "reports.md",
}
FILES = (  # under the same names
    "CITATION.cff",
    "examples/*.ipynb",
    "reports/showcase/*/index.html",
    "reports/showcase/*/leaderboard.png",
)
LINK = re.compile(r"(\]\()([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(REPOSITORY / source).read_text()))
    for pattern in FILES:
        for path in sorted(REPOSITORY.glob(pattern)):
            name = path.relative_to(REPOSITORY).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they stand in the repository become links of the site; mkdocs refuses those that lead nowhere."""
    sources = {target: source for source, target in PAGES.items()}
    here = posixpath.dirname(sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def of_the_site(found: re.Match[str]) -> str:
        if ":" in found[2]:
            return found[0]
        source = posixpath.normpath(posixpath.join(here, found[2]))
        return found[1] + PAGES.get(source, source.removeprefix("docs/"))

    return LINK.sub(of_the_site, markdown)
