"""What documents and code name is there: pages, files, settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.cli.environment import PREFIX, known_names

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FOLDERS = ("bench", "deploy", "docs", "feedback", "models", "service", "tests", "workers")
SUFFIXES = {".conf", ".cpp", ".h", ".lua", ".md", ".py", ".toml", ".txt", ".yaml"}
HISTORY = DOCS / "decisions"
"""Records of decisions name what there was when they were made."""

FILES = sorted(
    path
    for path in (*ROOT.iterdir(), *(each for top in FOLDERS for each in (ROOT / top).rglob("*")))
    if path.is_file() and "__pycache__" not in path.parts
)
NAMES = {path.relative_to(ROOT).as_posix() for path in FILES}
READ = [
    path for path in FILES if path.suffix in SUFFIXES or path.name in {"Dockerfile", "Makefile"}
]
PAGES = sorted(path for path in DOCS.rglob("*.md") if HISTORY not in path.parents)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_page_that_is_named_is_there() -> None:
    named = {
        (page, relative(path))
        for path in READ
        for page in re.findall(
            r"(?<![\w./])(?:\.\./)*(docs/[\w./-]+\.(?:md|png))", path.read_text(encoding="utf-8")
        )
    }
    assert {(page, where) for page, where in named if page not in NAMES} == set()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
    ours = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in ours if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_file_of_the_code_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(
        r"`([a-z_0-9/]+\.(?:py|lua|js|jsonl|cpp|h))\b", page.read_text(encoding="utf-8")
    )
    missing = [
        name
        for name in named
        if not any(path == name or path.endswith(f"/{name}") for path in NAMES)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_setting_that_a_page_names_is_one(page: Path) -> None:
    named = set(re.findall(rf"{PREFIX}[A-Z_]*[A-Z]\b(?!_)", page.read_text(encoding="utf-8")))
    assert named - known_names() == set()
