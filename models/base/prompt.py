"""Converts conversations to prompt ids, so that no user text becomes a control token.

A chat template joins message contents and control tokens into one text, which is then tokenised. A
content with the text of a control token (``<|im_end|>``) could end its own message. For such a
content, the template's control tokens get secret names, in the text and in a copy of the tokenizer.
The copy treats the original text of a control token as ordinary text. A prompt has exactly the
control tokens that it has with harmless contents, whatever the template does to them. All that a
request brings is such text: contents, thoughts, calls of tools, and what is said of the tools.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from models.errors import ChatTemplateError
from models.strict_json import json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from models.types import Message, Tool, ToolCall

_OURS = frozenset(
    {"role", "content", "system", "user", "assistant", "tool", "function", "type", "name"}
    | {"reasoning_content", "tool_calls", "tool_call_id", "id", "arguments", "description"}
    | {"parameters", "properties", "object", "required", "string"}
)
"""Words of the structure that templates read; none of them is part of a control token."""


def encode_chat(
    tokenizer: Any, messages: Sequence[Message], tools: Sequence[Tool] = ()
) -> tuple[int, ...]:
    """Return the prompt's token ids: the chat template, ending where the reply begins.

    The ids equal those of transformers' ``apply_chat_template``, except that the text of a control
    token within a content is tokenised as ordinary text.
    """
    control = _control_tokens(tokenizer)
    chat = Chat.of(messages, tools)
    if any(map(control.occur_in, chat.texts())):
        ids = control.encode(chat) if tokenizer.is_fast else None
        ids = _encode(tokenizer, chat.changed(control.break_in)) if ids is None else ids
    else:
        ids = _encode(tokenizer, chat)
    if not control.could_be_made_of(chat.texts()):
        return ids
    # A template may take a piece out of a content, and make a control token of the rest.
    harmless = _encode(tokenizer, chat.changed(control.without_signs))
    if control.among(ids) != control.among(harmless):
        ids = _encode(tokenizer, chat.changed(control.break_up))
    return ids


def encode_text(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the ids of a person's text, in which nothing becomes a control token."""
    control = _control_tokens(tokenizer)
    if control.occur_in(text):
        text = control.break_in(text)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


@dataclass(frozen=True, slots=True)
class Chat:
    """What a chat template gets, in plain values; each text in it may be a person's."""

    turns: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None

    @classmethod
    def of(cls, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Chat:
        """Return a conversation as templates take it."""
        names = {call.id: call.name for message in messages for call in message.tool_calls}
        turns = [_turn(each, names.get(each.tool_call_id, "")) for each in messages]
        return cls(turns, [{"type": "function", "function": asdict(t)} for t in tools] or None)

    def texts(self) -> Iterator[str]:
        """Yield all texts."""
        yield from _texts(self.turns)
        yield from _texts(self.tools)

    def changed(self, change: Callable[[str], str]) -> Chat:
        """Return the same with other texts."""
        return Chat(_changed(self.turns, change), _changed(self.tools, change))


def _turn(message: Message, tool: str) -> dict[str, Any]:
    """Return one turn; ``tool`` is the name of the one that speaks."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        turn["reasoning_content"] = message.reasoning
    if message.tool_calls:
        turn["tool_calls"] = [_call(each) for each in message.tool_calls]
    if message.role == "tool":
        turn |= {"tool_call_id": message.tool_call_id, "name": tool}
    return turn


def _call(call: ToolCall) -> dict[str, Any]:
    """Return a call; templates write the arguments as JSON, so that they take them as an object."""
    arguments: Any = json_object(call.arguments)
    function = {
        "name": call.name,
        "arguments": call.arguments if arguments is None else arguments,
    }
    return {"id": call.id, "type": "function", "function": function}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value not in _OURS:
        yield value
    elif isinstance(value, dict):
        for each in (*value, *value.values()):
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return value if value in _OURS else change(value)
    if isinstance(value, dict):
        return {_changed(k, change): _changed(each, change) for k, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_changed(each, change) for each in value]
    return value


def _render(tokenizer: Any, chat: Chat) -> str:
    try:
        text = tokenizer.apply_chat_template(
            chat.turns, tools=chat.tools, tokenize=False, add_generation_prompt=True
        )
    except TemplateError as error:
        raise ChatTemplateError(f"The model's chat template refuses this: {error}") from error
    except TypeError as error:  # a template may do to a value what its type does not have
        raise ChatTemplateError(f"The model's chat template does not take this: {error}") from error
    return str(text)


def _encode(tokenizer: Any, chat: Chat) -> tuple[int, ...]:
    text = _render(tokenizer, chat)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=4)
def _control_tokens(tokenizer: Any) -> _ControlTokens:
    return _ControlTokens(tokenizer)


class _ControlTokens:
    """The control tokens of one tokenizer, kept distinct from user text of the same characters."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        texts = {token.content for token in added if token.special}
        texts.update(tokenizer.all_special_tokens)
        self._pattern = _any_of(texts)
        self._ids = {tokenizer.convert_tokens_to_ids(text) for text in texts}
        self._firsts = {text[0] for text in texts if text}
        self._lasts = {text[-1] for text in texts if text}
        self._first = _any_of(self._firsts)
        # The names must be unpredictable, so that no user can write one.
        secret = secrets.token_hex(16)
        self._secret_names = {text: f"{secret}n{i}n" for i, text in enumerate(sorted(texts))}
        self._masks = {text: f"{secret}m{i}m" for i, text in enumerate(sorted(texts))}
        self._swaps = {**self._secret_names, **{mask: text for text, mask in self._masks.items()}}
        self._swap_pattern = _any_of(self._swaps)

    def occur_in(self, content: str) -> bool:
        """Return whether tokenising ``content`` would give a control token."""
        if self._pattern.search(content):
            return True
        normalizer = (
            self._tokenizer.backend_tokenizer.normalizer if self._tokenizer.is_fast else None
        )
        return bool(normalizer and self._pattern.search(normalizer.normalize_str(content)))

    def could_be_made_of(self, texts: Iterable[str]) -> bool:
        """Return whether texts have signs that begin and that end a control token."""
        signs = set().union(*texts)
        return bool(self._firsts & signs and self._lasts & signs)

    def among(self, ids: Sequence[int]) -> list[int]:
        """Return the control tokens among ids, in their order."""
        return [each for each in ids if each in self._ids]

    def without_signs(self, text: str) -> str:
        """Return a text of which no template can make a control token."""
        return self._first.sub("x", text)

    def break_up(self, text: str) -> str:
        """Return a text with a space behind every sign that begins a control token."""
        return self._first.sub(r"\g<0> ", text)

    def encode(self, chat: Chat) -> tuple[int, ...] | None:
        """Return prompt ids; None if the copy still maps ordinary text to control tokens."""
        masked = chat.changed(lambda text: self._pattern.sub(self._mask, text))
        # The remaining control texts are the template's. They get secret names; masks are undone.
        text = self._swap_pattern.sub(
            lambda found: self._swaps[found[0]], _render(self._tokenizer, masked)
        )
        ids = self._renamed.tokenizer.encode(text, add_special_tokens=False).ids
        if self._renamed.forbidden.intersection(ids):
            return None
        return tuple(self._renamed.ids.get(i, i) for i in ids)

    def break_in(self, text: str) -> str:
        """Return a text with a space inside the text of each control token."""
        while self._pattern.search(text):
            text = self._pattern.sub(_insert_space, text)
        return text

    def _mask(self, found: re.Match[str]) -> str:
        return self._masks[found[0]]

    @cached_property
    def _renamed(self) -> _Renamed:
        backend = self._tokenizer.backend_tokenizer
        spec = json.loads(backend.to_str())
        real = {}
        for token in spec["added_tokens"]:
            name = self._secret_names.get(token["content"], token["content"])
            real[name] = token["id"]
            if name != token["content"]:
                token.update(content=name, normalized=False)
        copy = type(backend).from_str(json.dumps(spec))
        text_ids = {copy.token_to_id(spelling) for spelling in self._secret_names}
        return _Renamed(
            tokenizer=copy,
            ids={copy.token_to_id(name): i for name, i in real.items()},
            forbidden=frozenset(text_ids - {None, self._tokenizer.unk_token_id}),
        )


@dataclass(frozen=True, slots=True)
class _Renamed:
    """A copy of a tokenizer whose control tokens have secret names.

    Attributes:
        ids: The original's id of each added token, by the copy's id.
        forbidden: The ids of vocabulary entries with the text of a control token.
    """

    tokenizer: Any
    ids: dict[int, int]
    forbidden: frozenset[int]


def _insert_space(found: re.Match[str]) -> str:
    first, rest = found[0][:1], found[0][1:]
    return f"{first} {rest}" if rest else " "


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that matches the longest of ``texts`` at each position."""
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
