"""Long conversations that no server has seen before."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Turn = dict[str, str]


def fresh_text(questions: Sequence[str], characters: int) -> str:
    """Return a long text of people's words whose very beginning is new."""
    text = uuid.uuid4().hex
    dice = random.Random(text)
    while len(text) < characters:
        text += f"\n{dice.choice(questions)}"
    return text[:characters]


def opening(questions: Sequence[str], characters: int) -> list[Turn]:
    """Return the first turn of a new conversation."""
    return [{"role": "user", "content": fresh_text(questions, characters)}]


def next_turn(turns: Sequence[Turn], answer: str) -> list[Turn]:
    """Return a conversation after an answer and a short question to it."""
    return [
        *turns,
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "Please say the same in one sentence."},
    ]
