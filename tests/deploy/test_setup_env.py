"""Set-up: what it pins, and when it has nothing to do."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "deploy" / "setup_env.py"
PIN = re.compile(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*")


@pytest.fixture
def setup_env() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_env", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clone(setup_env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the program with an environment of its own that looks complete."""
    (tmp_path / "bin").mkdir()
    for name in ("python", "thumbloop"):
        (tmp_path / "bin" / name).touch()
    monkeypatch.setattr(setup_env, "BIN", tmp_path / "bin")
    monkeypatch.setattr(setup_env, "STAMP", tmp_path / "stamp.json")
    return setup_env


def stamp(clone: ModuleType, text: str) -> None:
    clone.STAMP.write_text(text, encoding="utf-8")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_every_line_of_the_constraints_is_an_exact_public_version() -> None:
    assert [line for line in pins() if not PIN.fullmatch(line)] == []


def test_every_dependency_of_the_project_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {normal(re.split(r"[\[<>=~! ]", line, maxsplit=1)[0]) for line in wanted}
    assert names - {normal(line.split("==")[0]) for line in pins()} == set()


def test_a_pin_is_found_by_name_and_a_missing_one_is_told(setup_env: ModuleType) -> None:
    assert setup_env.pin("torch") == "torch==2.13.0"
    with pytest.raises(setup_env.SetupError, match="no line for nothing"):
        setup_env.pin("nothing")


def test_a_stamp_of_the_same_files_leaves_nothing_to_do(clone: ModuleType) -> None:
    stamp(clone, f'{{"hash": "{clone.fingerprint()}", "dev": false}}')
    assert clone.is_current(dev=False)
    assert not clone.is_current(dev=True)
    stamp(clone, f'{{"hash": "{clone.fingerprint()}", "dev": true}}')
    assert clone.is_current(dev=False)
    assert clone.is_current(dev=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hash": "other", "dev": true}'])
def test_a_broken_or_older_stamp_does_not_count(clone: ModuleType, text: str) -> None:
    stamp(clone, text)
    assert not clone.is_current(dev=False)


def test_an_environment_without_the_command_is_not_complete(clone: ModuleType) -> None:
    stamp(clone, f'{{"hash": "{clone.fingerprint()}", "dev": true}}')
    (clone.BIN / "thumbloop").unlink()
    assert not clone.is_current(dev=False)


def test_a_step_that_fails_tells_its_last_lines(
    setup_env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_env, "LOG", tmp_path / "log")
    script = "print('almost'); print('no room left'); raise SystemExit(1)"
    with (
        pytest.raises(setup_env.SetupError, match=r"(?s)Copying failed.*no room left"),
        setup_env.Step("Copying") as step,
    ):
        setup_env.run(step, sys.executable, "-c", script)
    assert "almost" in (tmp_path / "log").read_text()


def test_help_needs_no_terminal_and_no_input() -> None:
    command = [sys.executable, str(PROGRAM), "--help"]
    outcome = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    assert b"--dev" in outcome.stdout
