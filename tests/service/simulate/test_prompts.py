"""Reading questions from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.simulate.errors import SimulationError
from service.simulate.prompts import read_prompts

if TYPE_CHECKING:
    from pathlib import Path


def test_every_fourth_line_without_a_split_is_kept_for_the_measurement(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"prompt": "q{n}"}}\n' for n in range(1, 6)))
    prompts = read_prompts(path)
    assert prompts.chat == ("q1", "q2", "q3", "q5")
    assert prompts.score == ("q4",)


def test_a_split_on_the_line_is_kept_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "split": "score"}\n\n{"prompt": "b", "split": "chat"}\n')
    prompts = read_prompts(path)
    assert (prompts.chat, prompts.score) == (("b",), ("a",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Why?\n", "Line 1"),
        ('{"prompt": ""}\n', "Line 1"),
        ('{"prompt": "a", "split": "test"}\n', "line 1"),
        ('{"prompt": "a"}\n', "both splits"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(SimulationError, match=said):
        read_prompts(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="cannot be read"):
        read_prompts(tmp_path / "none.jsonl")
