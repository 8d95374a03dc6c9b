"""Priority is a process's own, so each case runs in one of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workers.priority import AUTOGROUP

REPORT = """
import os
from workers.priority import AUTOGROUP, give_way
give_way(7)
print(os.nice(0), AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else "")
"""


def _run(*command: str) -> list[str]:
    """Run a command in a session of its own; return the words that it prints."""
    command = command or (sys.executable, "-c", REPORT)
    done = subprocess.run(
        command, start_new_session=True, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_niceness_is_lowered() -> None:
    assert _run()[0] == "7"


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="the system has no autogroups")
def test_the_session_gives_way_too_if_it_is_ours() -> None:
    assert _run() == ["7", "7"]


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="the system has no autogroups")
def test_somebody_elses_session_is_left_alone() -> None:
    # The session is the outer shell's; the inner one is our parent.
    inner = f"'{sys.executable}' -c '{REPORT}'; true"
    assert _run("sh", "-c", 'sh -c "$0"; true', inner) == ["7", "0"]
