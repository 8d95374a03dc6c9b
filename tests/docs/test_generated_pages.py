"""The pages that are written from the code say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.settings import Settings
from service.cli.environment import PREFIX, known_names

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["settings", "commands", "columns"])
def test_the_page_is_current(page: str) -> None:
    command = [sys.executable, str(DOCS / "generate" / f"{page}.py"), "--check"]
    outcome = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (outcome.stderr, outcome.returncode) == ("", 0)


def test_the_settings_page_lists_every_variable_that_sets_something_and_no_other() -> None:
    rows = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8").splitlines()
    listed = [row.split("`")[1] for row in rows if row.startswith(f"- `{PREFIX}")]
    assert len(listed) == len(set(listed))
    assert set(listed) == known_names()
    assert Settings.model_config["env_prefix"] == PREFIX
