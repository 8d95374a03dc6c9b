"""The documentation builds as a site without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    outcome = subprocess.run(
        build, check=False, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert (outcome.stderr, outcome.returncode) == ("", 0)
    assert (tmp_path / "concepts" / "architecture.html").is_file()
