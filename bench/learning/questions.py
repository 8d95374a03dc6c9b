"""The questions of the laboratory: people's own, from public sets beside the checkout.

The three old tastes keep the questions that come with ``thumbloop simulate``. All others chat with
those and with `prompts_train.jsonl`, and are measured with others and `prompts_heldout.jsonl`,
from which nothing is ever learned.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bench.support.paths import SHARED_DATA
from service.simulate.prompts import Prompts, builtin_prompts

if TYPE_CHECKING:
    from service.simulate.tastes import Taste

LONGEST = 500
"""Questions with more characters are left out: a pass over them would cost more than a reply."""


class NoQuestionsError(Exception):
    """The public questions are not there."""


def questions_of(taste: Taste) -> Prompts:
    """Return the questions that people with a taste ask, and those that measure versions.

    Raises:
        NoQuestionsError: The taste needs the public questions, and they are not there.
    """
    own = builtin_prompts(taste)
    if taste.half == "control":
        return own
    return Prompts(
        chat=(*own.chat, *_public("prompts_train.jsonl")),
        score=(*_public("prompts_heldout.jsonl"), *own.score),
    )


def _public(name: str) -> tuple[str, ...]:
    path = SHARED_DATA / name
    if not path.is_file():
        raise NoQuestionsError(
            f"{path} is not there: only the tastes brief, plain and polite can be run without it."
        )
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return tuple(row["prompt"] for row in rows if len(row["prompt"]) <= LONGEST)
