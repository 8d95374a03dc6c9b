"""Tokenizers that are read once: reading one takes most of the time that a tiny base loads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer


class TokenizersReadOnce:
    """Stands for ``AutoTokenizer``: each caller gets a copy of what the folder held at first.

    The copies share what is compiled; attributes such as ``chat_template`` are each copy's own.
    """

    def __init__(self) -> None:
        self._read: dict[tuple[str, int], Any] = {}

    def from_pretrained(self, source: str | Path, *, local_files_only: bool = False) -> Any:
        del local_files_only  # what tests read is always here
        files = [*Path(source).glob("*.json"), *Path(source).glob("*.jinja")]
        key = (str(source), max((file.stat().st_mtime_ns for file in files), default=0))
        if key not in self._read:
            self._read[key] = AutoTokenizer.from_pretrained(source)
        return copy.copy(self._read[key])
