"""What the programs beside this one share: a page is written, or only compared."""

from __future__ import annotations

import sys
from pathlib import Path

REFERENCE = Path(__file__).parents[1] / "reference"


def write_or_check(name: str, text: str) -> int:
    """Write a page of the reference; with ``--check`` only say whether it is current.

    Args:
        name: The page's file in ``docs/reference``.
        text: What the page is to say.

    Returns:
        The exit code: 1 where a check found another text.
    """
    page = REFERENCE / name
    if "--check" not in sys.argv[1:]:
        page.write_text(text, encoding="utf-8")
        return 0
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"docs/reference/{name} is not current; run: make pages\n")
        return 1
    return 0
