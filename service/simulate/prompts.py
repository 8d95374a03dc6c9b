"""The questions that simulated users ask, from the built-in file or one of the caller's.

A line is a JSON object with ``prompt`` and, optionally, ``split`` (``chat``: asked while voting;
``score``: kept for the final measurement) and ``topic``. Lines without a split are dealt out:
every fourth is kept for the measurement.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from service.simulate.errors import SimulationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from service.simulate.tastes import Taste

_SCORE_EVERY = 4


@dataclass(frozen=True, slots=True)
class Prompts:
    """Questions asked while voting, and others that are kept for the measurement."""

    chat: tuple[str, ...]
    score: tuple[str, ...]


def builtin_prompts(taste: Taste) -> Prompts:
    """Return the built-in questions on the taste's topics, or all where it names none."""
    text = files("service.simulate").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    rows = [_row(line, number) for number, line in enumerate(text.splitlines(), start=1)]
    return _split(row for row in rows if not taste.topics or row["topic"] in taste.topics)


def read_prompts(path: Path) -> Prompts:
    """Return the questions of a JSON-lines file.

    Raises:
        SimulationError: The file cannot be read, a line has no prompt, or a split would be empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SimulationError(f"The prompts in {path} cannot be read: {error}") from error
    numbered = enumerate(lines, start=1)
    prompts = _split(_row(line, number) for number, line in numbered if line.strip())
    if not prompts.chat or not prompts.score:
        raise SimulationError(
            f"{path} needs questions for both splits, chat and score: at least {_SCORE_EVERY} "
            "lines, or a split on each line."
        )
    return prompts


def _row(line: str, number: int) -> dict[str, str]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(prompt, str) or not prompt.strip():
        raise SimulationError(
            f'Line {number} of the prompts is not like {{"prompt": "Why is the sky blue?"}}.'
        )
    if row.get("split") not in {None, "chat", "score"}:
        raise SimulationError(f"The split on line {number} of the prompts is not chat or score.")
    return row


def _split(rows: Iterable[dict[str, str]]) -> Prompts:
    chat: list[str] = []
    score: list[str] = []
    for number, row in enumerate(rows, start=1):
        dealt = "score" if number % _SCORE_EVERY == 0 else "chat"
        (score if row.get("split", dealt) == "score" else chat).append(row["prompt"])
    return Prompts(tuple(chat), tuple(score))
