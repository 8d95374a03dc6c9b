"""The questions of the laboratory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench.learning import questions
from bench.learning.questions import LONGEST, NoQuestionsError, questions_of
from service.simulate.prompts import builtin_prompts
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(questions, "SHARED_DATA", tmp_path)
    return tmp_path


def _write(path: Path, prompts: list[str]) -> None:
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))


def test_wide_tastes_ask_public_questions_and_are_measured_on_others(folder: Path) -> None:
    _write(folder / "prompts_train.jsonl", ["Why is it so?", "x" * (LONGEST + 1)])
    _write(folder / "prompts_heldout.jsonl", ["What is it?"])
    found, own = questions_of(TASTES["warm"]), builtin_prompts(TASTES["warm"])
    assert found.chat == (*own.chat, "Why is it so?")
    assert found.score == ("What is it?", *own.score)
    assert not set(found.chat) & set(found.score)


def test_without_the_public_questions_only_the_control_tastes_can_be_run(folder: Path) -> None:
    assert questions_of(TASTES["brief"]) == builtin_prompts(TASTES["brief"])
    with pytest.raises(NoQuestionsError, match="only the tastes brief, plain and polite"):
        questions_of(TASTES["warm"])
