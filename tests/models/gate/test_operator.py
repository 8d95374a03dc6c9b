from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from models.errors import GateError
from models.gate.operator import MAX_PROMPTS, OperatorPrompt, parse, read_operator_prompts
from models.types import Message

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_become_prompts_with_their_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('\n{"prompt": "Hi", "must": ["a|b"], "must_not": ["c"]}\n')
    (tmp_path / "a.jsonl").write_text(
        '{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}], '
        '"must_not": ["x"]}'
    )
    (tmp_path / "notes.txt").write_text("not read")
    assert read_operator_prompts(tmp_path) == [
        OperatorPrompt("a.jsonl:1", (Message("system", "S"), Message("user", "U")), (), ("x",)),
        OperatorPrompt("b.jsonl:2", (Message("user", "Hi"),), ("a|b",), ("c",)),
    ]


def test_other_ends_of_lines_may_stand_in_a_text() -> None:
    (found,) = parse("a.jsonl", '{"prompt": "Hi\u2028you", "must": ["a{2,3}.{0,300}b{4}"]}\r\n')
    assert found.messages == (Message("user", "Hi\u2028you"),)


def test_no_folder_means_no_prompts(tmp_path: Path) -> None:
    assert read_operator_prompts(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no object"),
        ('{"prompt": "Hi", "must": ["a"], "musn\'t": []}', "musn't"),
        ('{"prompt": "Hi"}', "neither must nor must_not"),
        ('{"prompt": "Hi", "must": []}', "neither must nor must_not"),
        ('{"must": ["a"]}', "either prompt or messages"),
        ('{"prompt": "Hi", "messages": [], "must": ["a"]}', "either prompt or messages"),
        ('{"prompt": 3, "must": ["a"]}', "a prompt is a text"),
        ('{"prompt": " ", "must": ["a"]}', "a prompt is a text"),
        ('{"messages": [{"role": "robot", "content": "a"}], "must": ["a"]}', "role and content"),
        ('{"messages": [], "must": ["a"]}', "role and content"),
        ('{"prompt": "Hi", "must": "a"}', "must is a list"),
        ('{"prompt": "Hi", "must_not": [""]}', "must_not is a list"),
        ('{"prompt": "Hi", "must": ["("]}', "not a regular expression"),
        ('{"prompt": "Hi", "must": ["(?a)(?u)x"]}', "not a regular expression"),
        ('{"prompt": "Hi", "must": ["((a{999}){999}){999}"]}', "multiply to too much"),
        ('{"prompt": "Hi", "must": ["((a{999,}){0,999}){ 999 }"]}', "multiply to too much"),
        ('{"prompt": "half a \\ud83d", "must": ["a"]}', "a prompt is a text"),
        ('{"prompt": "Hi", "must": ["' + "a" * 501 + '"]}', "more than 500 characters"),
        ('{"prompt": "Hi", "must": [' + ",".join(['"a"'] * 21) + "]}", "more than 20 patterns"),
    ],
)
def test_a_broken_line_is_refused_by_file_and_line(line: str, message: str) -> None:
    with pytest.raises(GateError, match=r"^mine\.jsonl:2") as caught:
        parse("mine.jsonl", f'{{"prompt": "Hi", "must": ["a"]}}\n{line}\n')
    assert message in str(caught.value)


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(GateError, match=r"a\.jsonl cannot be read"):
        read_operator_prompts(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(b"\n" * ((1 << 20) + 1))
    with pytest.raises(GateError, match="larger than"):
        read_operator_prompts(tmp_path)


def test_more_prompts_than_can_be_answered_are_refused(tmp_path: Path) -> None:
    line = '{"prompt": "Hi", "must": ["a"]}\n'
    (tmp_path / "a.jsonl").write_text(line * MAX_PROMPTS)
    assert len(read_operator_prompts(tmp_path)) == MAX_PROMPTS
    (tmp_path / "b.jsonl").write_text(line)
    with pytest.raises(GateError, match="at most 100"):
        read_operator_prompts(tmp_path)


def test_rules_say_which_of_them_a_reply_breaks() -> None:
    prompt = OperatorPrompt("f:1", (), must=("(?i)price", "€"), must_not=("free", r"\bsorry\b"))
    assert prompt.broken("The PRICE is 3 €.") == ()
    assert prompt.broken("Sorry, it is free") == ("lacks /(?i)price/", "lacks /€/", "has /free/")


def test_a_pattern_that_would_hang_is_given_up_and_counts_as_broken() -> None:
    began = time.process_time()
    broken = OperatorPrompt("f:1", (), must_not=("^(a|aa)+$",)).broken("a" * 200 + "b")
    assert time.process_time() - began < 2
    assert broken == ("/^(a|aa)+$/ took longer than 0.5 s: make it simpler",)
