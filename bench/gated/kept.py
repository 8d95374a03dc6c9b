"""Keeps the list of adapters that were made, so that a later start makes only missing ones."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Made:
    """An adapter that the gate is to decide on.

    Attributes:
        kind: ``honest``, or what is wrong with it.
        name: What distinguishes it among its kind.
        version: Its id.
        parent: The version that it was learned from.
    """

    kind: str
    name: str
    version: str
    parent: str


class Kept:
    """The list of what was made; the adapters lie beside it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "made.jsonl"
        self.all: list[Made] = []
        if self._file.exists():
            lines = self._file.read_text(encoding="utf-8").splitlines()
            self.all = [Made(**json.loads(line)) for line in lines]

    def has(self, kind: str, name: str) -> bool:
        """Whether this one was made before."""
        return any((made.kind, made.name) == (kind, name) for made in self.all)

    def next_number(self) -> int:
        """Return a sequence number that no adapter here has."""
        return 1 + max((int(made.version[1:7]) for made in self.all), default=0)

    def add(self, made: list[Made]) -> None:
        """Remember what was made together, all or nothing."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(asdict(each)) + "\n" for each in made))
        self.all += made
