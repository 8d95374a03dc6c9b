"""Text that people have stored is shown as it is, and never controls the operator's terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.cli.output import print_fields, print_table, visible

if TYPE_CHECKING:
    from tests.support.service.operator import Operator

BRACKETS = "see [/ops] and [issue 12] [bold]x[/bold]"
ESCAPES = "a\x1b[31mred\x1b]0;title\x07\x9b2J\x7f\rb\u202ec"


def test_brackets_are_text(operator: Operator) -> None:
    operator.run("keys", "create", "ops [/chat]")
    assert "ops [/chat]" in operator.run("keys", "list").stdout


def test_a_table_and_a_list_of_fields_show_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["why"], [[BRACKETS]], "none")
    print_fields({"why": BRACKETS, "all": [BRACKETS]})
    assert capsys.readouterr().out.count(BRACKETS) == 3


def test_control_characters_are_seen_and_not_sent(operator: Operator) -> None:
    operator.run("keys", "create", ESCAPES)
    printed = operator.run("keys", "list").stdout
    assert "\x1b" not in printed
    assert r"a\x1b[31mred\x1b]0;title\x07\x9b2J\x7f\rb\u202ec" in printed
    as_json = operator.run("keys", "list", "--json").stdout
    assert not set(as_json) & set("\x1b\x07\x9b\x7f\r\u202e")
    assert operator.ask("keys", "list")[0]["name"] == ESCAPES


@pytest.mark.parametrize("text", ["plain", "שלום", "two\nlines\tand a tab", "👩‍👩‍👧 [x] \\x1b"])
def test_all_other_text_is_left_as_it_is(text: str) -> None:
    assert visible(text) == text
