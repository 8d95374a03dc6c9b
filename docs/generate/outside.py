"""A hook of mkdocs: takes pages from outside docs/ into the site, and mends the links between them.

The same Markdown is read in the repository, where a link may lead to any file, and in the site,
which has only pages. A link to a file that the site lacks keeps its text and loses its address.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs"
OUTSIDE = {
    "bench/RESULTS.md": "project/figures.md",
    "bench/TRIALS.md": "project/trials.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""Pages by their path in the repository, and where the site has them."""

_LINK = re.compile(r"(?<!!)\[(?P<text>[^][]*)\]\((?P<address>[^)\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z]+:|#|/")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside."""
    for source, uri in OUTSIDE.items():
        content = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Turn the links of one page from paths in the repository to paths in the site."""
    here = page.file.src_uri
    pages = {file.src_uri for file in files}
    source = next((path for path, uri in OUTSIDE.items() if uri == here), f"{DOCS}/{here}")

    def mended(link: re.Match[str]) -> str:
        address, text = link["address"], link["text"]
        if _ELSEWHERE.match(address):
            return link[0]
        path, mark, anchor = address.partition("#")
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        uri = OUTSIDE.get(wanted, wanted.removeprefix(f"{DOCS}/"))
        if uri in pages:
            return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(here))}{mark}{anchor})"
        # A page of ours that is not there stays, so that the strict build stops at it.
        lost = wanted.startswith(f"{DOCS}/") and wanted.endswith(".md")
        return link[0] if lost else text

    return _LINK.sub(mended, markdown)
