from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models import failpoints
from models.errors import ModelsError
from models.failpoints import FAILPOINTS, FailpointError, failpoint, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _read_afresh() -> Iterator[None]:
    failpoints.armed.cache_clear()
    yield
    failpoints.armed.cache_clear()


def test_nothing_happens_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    for name in FAILPOINTS:
        failpoint(name)


def test_each_point_does_what_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, " claim.after=raise; commit.before=sleep:0.05 ;")
    failpoint("claim.before")
    with pytest.raises(FailpointError, match=r"claim\.after"):
        failpoint("claim.after")
    begun = time.monotonic()
    failpoint("commit.before")
    assert time.monotonic() - begun >= 0.05


def test_a_point_that_kills_leaves_no_time_to_tidy_up() -> None:
    code = (
        "from models.failpoints import failpoint\n"
        "try:\n    failpoint('claim.after')\nfinally:\n    print('tidied up')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), failpoints.VARIABLE: "claim.after=kill"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-9, b"")


def test_the_module_needs_no_torch() -> None:
    code = "import sys, models.failpoints; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("claim.afterwards=kill", "not a failpoint"),
        ("claim.after", "asks for ''"),
        ("claim.after=explode", "asks for 'explode'"),
        ("claim.after=sleep:soon", "asks for 'sleep:soon'"),
        ("claim.after=sleep:-1", "asks for 'sleep:-1'"),
        ("claim.after=sleep:nan", "asks for 'sleep:nan'"),
        ("claim.after=kill:now", "asks for 'kill:now'"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, said: str) -> None:
    with pytest.raises(ModelsError, match=said):
        parse(text)


def test_whoever_sets_a_point_is_told_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failpoints.check_failpoints()
    assert caplog.text == ""
    failpoints.armed.cache_clear()
    monkeypatch.setenv(failpoints.VARIABLE, "learn.midst=kill")
    failpoints.check_failpoints()
    assert "FAILPOINTS ARE SET" in caplog.text
    assert "learn.midst" in caplog.text


def test_every_point_is_somewhere_on_the_way_and_no_other_is() -> None:
    placed = [
        name
        for folder in ("models", "workers", "feedback", "service")
        for file in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"\bfailpoint\(\"([^\"]+)\"\)", file.read_text())
    ]
    assert sorted(placed) == sorted(FAILPOINTS)


def test_the_table_of_the_page_is_current() -> None:
    page = (ROOT / "docs" / "reference" / "faults.md").read_text()
    table = page.partition("| failpoint |")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| `(.+)` \| (.+) \|$", table, re.MULTILINE)) == FAILPOINTS
