"""Conversations to prompt ids: what people write never becomes a control token.

A chat template puts contents and control tokens into one text, which is then tokenised. A content
that spells a control token (``<|im_end|>``) would end its own turn there. So where one does, the
template's control tokens are renamed to names that nobody can spell, in the text and in a copy of
the tokenizer; what is spelled like one is ordinary text to that copy.
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
    """Return prompt ids with the chat template applied and the assistant's turn opened.

    They are those of transformers' own ``apply_chat_template``, unless a content spells a control
    token: that part is tokenised as the plain text that it is.
    """
    control = _control_tokens(tokenizer)
    if not any(control.are_spelled_in(message.content) for message in messages):
        return _encode(tokenizer, messages)
    ids = control.encode(messages) if tokenizer.is_fast else None
    return _encode(tokenizer, control.broken_in(messages)) if ids is None else ids


def encode_text(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Return the ids of a text that somebody wrote, in which nothing is a control token."""
    control = _control_tokens(tokenizer)
    if control.are_spelled_in(text):
        (message,) = control.broken_in([Message("assistant", text)])
        text = message.content
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _render(tokenizer: Any, messages: Sequence[Message]) -> str:
    turns = [{"role": m.role, "content": m.content} for m in messages]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return str(text)


def _encode(tokenizer: Any, messages: Sequence[Message]) -> tuple[int, ...]:
    text = _render(tokenizer, messages)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=4)
def _control_tokens(tokenizer: Any) -> _ControlTokens:
    return _ControlTokens(tokenizer)


class _ControlTokens:
    """The control tokens of one tokenizer, and what tells them from text that is spelled alike."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        spellings = {token.content for token in added if token.special}
        spellings.update(tokenizer.all_special_tokens)
        self._spelled = _any_of(spellings)
        # Whoever could guess the names could spell them.
        secret = secrets.token_hex(16)
        self._names = {text: f"{secret}n{i}n" for i, text in enumerate(sorted(spellings))}
        self._masks = {text: f"{secret}m{i}m" for i, text in enumerate(sorted(spellings))}
        self._swaps = {**self._names, **{mask: text for text, mask in self._masks.items()}}
        self._swapped = _any_of(self._swaps)

    def are_spelled_in(self, content: str) -> bool:
        """Whether tokenising ``content`` would give a control token."""
        if self._spelled.search(content):
            return True
        normalizer = (
            self._tokenizer.backend_tokenizer.normalizer if self._tokenizer.is_fast else None
        )
        return bool(normalizer and self._spelled.search(normalizer.normalize_str(content)))

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        """Return prompt ids; None if ordinary text, too, becomes control tokens here."""
        masked = [
            replace(m, content=self._spelled.sub(lambda found: self._masks[found[0]], m.content))
            for m in messages
        ]
        # Now every spelling is the template's; give those their names, and take the masks off.
        text = self._swapped.sub(
            lambda found: self._swaps[found[0]], _render(self._tokenizer, masked)
        )
        ids = self._renamed.tokenizer.encode(text, add_special_tokens=False).ids
        if self._renamed.forbidden.intersection(ids):
            return None
        return tuple(self._renamed.ids.get(i, i) for i in ids)

    def broken_in(self, messages: Sequence[Message]) -> list[Message]:
        """Return messages in which no control token is spelled any more: a space breaks each."""
        contents = [message.content for message in messages]
        while any(map(self._spelled.search, contents)):
            contents = [self._spelled.sub(_broken, content) for content in contents]
        return [replace(m, content=text) for m, text in zip(messages, contents, strict=True)]

    @cached_property
    def _renamed(self) -> _Renamed:
        backend = self._tokenizer.backend_tokenizer
        spec = json.loads(backend.to_str())
        real = {}
        for token in spec["added_tokens"]:
            name = self._names.get(token["content"], token["content"])
            real[name] = token["id"]
            if name != token["content"]:
                token.update(content=name, normalized=False)
        copy = type(backend).from_str(json.dumps(spec))
        text_ids = {copy.token_to_id(spelling) for spelling in self._names}
        return _Renamed(
            tokenizer=copy,
            ids={copy.token_to_id(name): i for name, i in real.items()},
            forbidden=frozenset(text_ids - {None, self._tokenizer.unk_token_id}),
        )


@dataclass(frozen=True, slots=True)
class _Renamed:
    """A tokenizer whose control tokens have secret names.

    Attributes:
        ids: The id of each added token here, to its id in the original.
        forbidden: Ids that the original's control tokens have as plain entries of the vocabulary.
    """

    tokenizer: Any
    ids: dict[int, int]
    forbidden: frozenset[int]


def _broken(found: re.Match[str]) -> str:
    first, rest = found[0][:1], found[0][1:]
    return f"{first} {rest}" if rest else " "


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds the longest of ``texts`` at each place."""
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
