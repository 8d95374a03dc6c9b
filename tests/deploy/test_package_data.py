"""What a wheel holds beside the code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("feedback", "models", "service", "workers")


def test_a_wheel_holds_all_files_of_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    setuptools = pytest.importorskip("setuptools", reason="only an environment that builds has it")
    distribution = setuptools.Distribution({"script_name": "setup.py"})
    distribution.parse_config_files(["pyproject.toml"])
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    held = {Path(folder) / name for _, folder, _, names in build.data_files for name in names}
    named = subprocess.run(
        ["git", "ls-files", *PACKAGES], capture_output=True, text=True, check=True
    )
    tracked = {Path(name) for name in named.stdout.splitlines() if not name.endswith(".py")}
    assert tracked - held <= {Path("service/web/vendor/README.md")}
