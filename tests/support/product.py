"""The product's files, as tests of its form read them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "feedback", "service", "workers")


@cache
def modules() -> dict[Path, ast.Module]:
    """Return each Python file of the product, by its path in the checkout."""
    files = (file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")))
    return {file.relative_to(ROOT): ast.parse(file.read_text()) for file in files}
