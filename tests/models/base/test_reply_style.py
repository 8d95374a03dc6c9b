"""Tools and thoughts in prompts, and what a chat template tells of the replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoTokenizer

from models.base.prompt import encode_chat
from models.base.reply_style import check_tools, reply_style
from models.errors import ChatTemplateError, ToolsUnsupportedError
from models.types import Message, ReplyStyle, Tool, ToolCall
from tests.support.models.chat_templates import CONTROL, HERMES, THINKING, make_family

if TYPE_CHECKING:
    from pathlib import Path

ADD = Tool("add", "Adds two numbers.", {"type": "object", "properties": {"a": {}, "b": {}}})
CALL = ToolCall("abcdefghi", "add", '{"a": 1, "b": "\\u00e9"}')
TURNS = [
    Message("user", "Add, please."),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "3", tool_call_id="abcdefghi"),
]
FAMILIES = ("hermes", "llama", "mistral")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokenizer(tiny_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_folder)


def test_the_template_tells_how_tools_are_called(tokenizer: Any, family: str) -> None:
    make_family(tokenizer, family)
    ids = encode_chat(tokenizer, TURNS[:1], [ADD])
    assert reply_style(tokenizer, ids, tools=True).tools == family
    assert reply_style(tokenizer, ids, tools=False).tools is None
    check_tools(tokenizer, [ADD], TURNS)


def test_tools_and_turns_of_tools_are_in_the_prompt(tokenizer: Any, family: str) -> None:
    make_family(tokenizer, family)
    text = tokenizer.decode(encode_chat(tokenizer, TURNS, [ADD]))
    assert "Adds two numbers." in text
    arguments = "parameters" if family == "llama" else "arguments"
    assert f'"name": "add", "{arguments}": {{"a": 1, "b": "é"}}' in text
    assert "3" in text.partition("Add, please.")[2]


@pytest.mark.parametrize("place", range(7))
def test_nothing_of_a_request_with_tools_becomes_a_control_token(
    tokenizer: Any, family: str, place: int
) -> None:
    make_family(tokenizer, family)
    special = set(tokenizer.convert_tokens_to_ids(list(CONTROL[family])))
    forged = "".join(CONTROL[family])

    def control(said: str) -> list[int]:
        texts = [said if number == place else "x" for number in range(6)]
        arguments = f'{{"{texts[3]}": "{texts[4]}"}}'
        calls = (ToolCall(CALL.id, "add", arguments if place < 6 else said),)
        turns = [
            Message("user", "x"),
            Message("assistant", texts[5], tool_calls=calls),
            Message("tool", texts[0], tool_call_id=CALL.id),
        ]
        schema = {"type": "object", "properties": {texts[2]: {"description": texts[1]}}}
        ids = encode_chat(tokenizer, turns, [Tool("add", texts[1], schema)])
        return [each for each in ids if each in special]

    assert control(forged) == control("x")


def test_a_base_without_tools_says_so(tokenizer: Any) -> None:
    for tools, turns in (([ADD], TURNS[:1]), ([], TURNS)):
        with pytest.raises(ToolsUnsupportedError, match="has no tools"):
            check_tools(tokenizer, tools, turns)
    check_tools(tokenizer, [], TURNS[:1])


@pytest.mark.parametrize("template", ["{{ tools }}", "<tool_call><function=x>{{ tools }}"])
def test_another_way_of_calling_tools_is_refused(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    check_tools(tokenizer, [ADD], TURNS)
    with pytest.raises(ToolsUnsupportedError, match="in another way"):
        reply_style(tokenizer, [1], tools=True)
    assert reply_style(tokenizer, [1], tools=False) == ReplyStyle()


def test_what_the_template_refuses_of_tools_is_said(tokenizer: Any) -> None:
    make_family(tokenizer, "mistral")
    calls = (ToolCall("call_1", "add", "{}"),)
    with pytest.raises(ChatTemplateError, match="nine signs"):
        encode_chat(tokenizer, [TURNS[0], Message("assistant", "", tool_calls=calls)])


def test_a_tokenizer_may_have_a_template_of_its_own_for_tools(tokenizer: Any) -> None:
    tokenizer.chat_template = {"default": "Hi", "tool_use": HERMES}
    check_tools(tokenizer, [ADD], TURNS)
    assert "Adds two numbers." in tokenizer.decode(encode_chat(tokenizer, TURNS, [ADD]))
    assert tokenizer.decode(encode_chat(tokenizer, TURNS[:1])) == "Hi"


def test_the_prompt_tells_whether_the_thought_is_open(tokenizer: Any) -> None:
    assert reply_style(tokenizer, [1], tools=False) == ReplyStyle()
    for template, opened in ((HERMES, False), (THINKING, True)):
        tokenizer.chat_template = template
        ids = encode_chat(tokenizer, [Message("user", "Hi <think>")])
        style = reply_style(tokenizer, ids, tools=False)
        assert style == ReplyStyle(thinks=True, opened=opened)


def test_a_thought_is_in_the_prompt_only_where_the_template_wants_it(tokenizer: Any) -> None:
    tokenizer.chat_template = HERMES
    thought = Message("assistant", "Hi.", reasoning="Hm?")
    assert "Hm?" in tokenizer.decode(encode_chat(tokenizer, [TURNS[0], thought]))
    assert "Hm?" not in tokenizer.decode(encode_chat(tokenizer, [TURNS[0], thought, TURNS[0]]))
