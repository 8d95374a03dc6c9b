from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from feedback.export.layouts import PAIRED, Layout, pair_row, single_rows
from feedback.export.pairs import Match, Pairing, resolve
from feedback.types import Completion, Person, Vote
from feedback.vote_record import VoteRecord
from models.types import Message, Sampling

PAGE = Path(__file__).parents[2] / "docs" / "tasks" / "export.md"

REPLY = Completion(
    id="chatcmpl-5f0c",
    person=Person("open", "ann"),
    conversation="c-17",
    version="base",
    messages=(Message("system", "Be kind."), Message("user", "How long does tea steep?")),
    text="Three minutes.",
    prompt_ids=(1, 9690, 198),
    response_ids=(14931, 2),
    behaviour_logprobs=(-0.75, -0.125),
    sampling=Sampling(),
    finish_reason="stop",
    created_at=1795370400.5,
    metadata={"page": "help"},
)
LIKED = VoteRecord(
    id=REPLY.id,
    state="learned",
    revision=1,
    updated_at=1795370430.25,
    learned_by="v000002-3fa9c1d2e4b7",
    person=REPLY.person,
    version="base",
    vote=Vote(thumb="up", comment="short and right"),
    score=1.0,
    scored_revision=1,
    voted_at=1795370430.25,
    completion=REPLY,
)


def made(layout: Layout) -> list[dict[str, Any]]:
    if layout not in PAIRED:
        return single_rows(layout, LIKED)
    other = replace(REPLY, id="chatcmpl-0001", text="That depends.")
    disliked = replace(LIKED, id=other.id, vote=Vote(thumb="down"), score=-1.0, completion=other)
    pairing = Pairing()
    assert pairing.take(LIKED) == []
    (match,) = pairing.take(disliked)
    assert isinstance(match, Match)
    pair = resolve(match, REPLY)
    assert pair is not None
    return [pair_row(layout, pair)]


@pytest.mark.parametrize("layout", get_args(Layout))
def test_the_example_of_each_layout_is_what_an_export_makes(layout: Layout) -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page.split(f"\n### {layout}\n")[1].split("\n### ")[0]
    example = re.findall(r"```json\n(.*?)```", section, re.DOTALL)[0]
    (row,) = made(layout)
    assert json.loads(example) == row
    assert list(json.loads(example)) == list(row)
