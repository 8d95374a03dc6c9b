"""Converts conversations to prompt ids, so that no user text becomes a control token.

A chat template joins message contents and control tokens into one text, which is then tokenised. A
content with the text of a control token (``<|im_end|>``) could end its own message. For such a
content, the template's control tokens get secret names, in the text and in a copy of the tokenizer.
The copy treats the original text of a control token as ordinary text.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from models.types import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def encode_chat(tokenizer: Any, messages: Sequence[Message]) -> tuple[int, ...]:
    """Return the prompt's token ids: the chat template, ending where the reply begins.

    The ids equal those of transformers' ``apply_chat_template``, except that the text of a control
    token within a content is tokenised as ordinary text.
    """
    control = _control_tokens(tokenizer)
    if not any(control.occur_in(message.content) for message in messages):
        return _encode(tokenizer, messages)
    ids = control.encode(messages) if tokenizer.is_fast else None
    return _encode(tokenizer, control.break_in(messages)) if ids is None else ids


def encode_text(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the ids of a person's text, in which nothing becomes a control token."""
    control = _control_tokens(tokenizer)
    if control.occur_in(text):
        (message,) = control.break_in([Message("assistant", text)])
        text = message.content
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _render(tokenizer: Any, messages: Sequence[Message]) -> str:
    conversation = [{"role": m.role, "content": m.content} for m in messages]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
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
