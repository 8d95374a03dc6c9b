"""Converts conversations to prompt ids, so that no user text becomes a control token.

A chat template joins message contents and control tokens into one text, which is then tokenised. A
content with the text of a control token (``<|im_end|>``) could end its own message. For such a
content, the template's control tokens get secret names, in the text and in a copy of the tokenizer.
The copy treats the original text of a control token as ordinary text. A prompt has exactly the
control tokens that it has with harmless contents, whatever the template does to them.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from models.errors import ChatTemplateError
from models.types import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def encode_chat(tokenizer: Any, messages: Sequence[Message]) -> tuple[int, ...]:
    """Return the prompt's token ids: the chat template, ending where the reply begins.

    The ids equal those of transformers' ``apply_chat_template``, except that the text of a control
    token within a content is tokenised as ordinary text.
    """
    control = _control_tokens(tokenizer)
    if any(control.occur_in(message.content) for message in messages):
        ids = control.encode(messages) if tokenizer.is_fast else None
        ids = _encode(tokenizer, control.break_in(messages)) if ids is None else ids
    else:
        ids = _encode(tokenizer, messages)
    if not control.could_be_made_of(messages):
        return ids
    # A template may take a piece out of a content, and make a control token of the rest.
    if control.among(ids) != control.among(_encode(tokenizer, control.without_signs(messages))):
        ids = _encode(tokenizer, control.break_up(messages))
    return ids


def encode_text(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the ids of a person's text, in which nothing becomes a control token."""
    control = _control_tokens(tokenizer)
    if control.occur_in(text):
        (message,) = control.break_in([Message("assistant", text)])
        text = message.content
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _render(tokenizer: Any, messages: Sequence[Message]) -> str:
    conversation = [{"role": m.role, "content": m.content} for m in messages]
    try:
        text = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
    except TemplateError as error:
        raise ChatTemplateError(f"The model's chat template refuses this: {error}") from error
    return str(text)


def _encode(tokenizer: Any, messages: Sequence[Message]) -> tuple[int, ...]:
    text = _render(tokenizer, messages)
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

    def could_be_made_of(self, messages: Sequence[Message]) -> bool:
        """Return whether a content has signs that begin and that end a control token."""
        return any(
            self._firsts & set(message.content) and self._lasts & set(message.content)
            for message in messages
        )

    def among(self, ids: Sequence[int]) -> list[int]:
        """Return the control tokens among ids, in their order."""
        return [each for each in ids if each in self._ids]

    def without_signs(self, messages: Sequence[Message]) -> list[Message]:
        """Return messages of which no template can make a control token."""
        return [replace(m, content=self._first.sub("x", m.content)) for m in messages]

    def break_up(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with a space behind every sign that begins a control token."""
        return [replace(m, content=self._first.sub(r"\g<0> ", m.content)) for m in messages]

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        """Return prompt ids; None if the copy still maps ordinary text to control tokens."""
        masked = [
            replace(m, content=self._pattern.sub(lambda found: self._masks[found[0]], m.content))
            for m in messages
        ]
        # The remaining control texts are the template's. They get secret names; masks are undone.
        text = self._swap_pattern.sub(
            lambda found: self._swaps[found[0]], _render(self._tokenizer, masked)
        )
        ids = self._renamed.tokenizer.encode(text, add_special_tokens=False).ids
        if self._renamed.forbidden.intersection(ids):
            return None
        return tuple(self._renamed.ids.get(i, i) for i in ids)

    def break_in(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with a space inside the text of each control token."""
        contents = [message.content for message in messages]
        while any(map(self._pattern.search, contents)):
            contents = [self._pattern.sub(_insert_space, content) for content in contents]
        return [replace(m, content=text) for m, text in zip(messages, contents, strict=True)]

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
