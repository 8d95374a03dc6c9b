"""Incremental detokenisation: whole characters only, and no text past a stop string."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_INCOMPLETE = "\ufffd"


class TextStream:
    """Converts the tokens of one reply to text that can be sent at once.

    Args:
        tokenizer: The tokenizer of the base.
        stop: The strings that end the reply; empty strings are ignored.
        shown: The control tokens that are text here; the others have none.

    Attributes:
        stopped: Whether a stop string was completed.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], shown: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._hidden = _hidden(tokenizer, shown) if shown else None
        self._stop = [s for s in stop if s]
        self._ids: list[int] = []
        self._decoded_upto = 0  # the end of the ids whose text was taken
        self._context_from = 0  # the ids from here on are decoded again: spaces depend on context
        self._held_back = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Add a token, and return the text that can be sent now.

        Sets ``stopped`` when a stop string is complete, and returns the text before it.
        """
        self._ids.append(token_id)
        return self._release(self._held_back + self._decode_new())

    def finish(self) -> str:
        """Return the text that was held back, after a reply that ended without a stop string."""
        tail, self._held_back = self._held_back + self._decode_new(force=True), ""
        return tail

    def _decode_new(self, *, force: bool = False) -> str:
        before = self._decode(self._ids[self._context_from : self._decoded_upto])
        text = self._decode(self._ids[self._context_from :])
        if text.endswith(_INCOMPLETE) and not force:
            return ""
        self._context_from, self._decoded_upto = self._decoded_upto, len(self._ids)
        return text[len(before) :]

    def _decode(self, ids: Sequence[int]) -> str:
        if self._hidden is not None:
            ids = [each for each in ids if each not in self._hidden]
        text: str = self._tokenizer.decode(
            ids,
            skip_special_tokens=self._hidden is None,
            clean_up_tokenization_spaces=False,
        )
        return text

    def _release(self, text: str) -> str:
        found = [i for i in (text.find(s) for s in self._stop) if i >= 0]
        if found:
            self.stopped, self._held_back = True, ""
            return text[: min(found)]
        keep = max((partial_match(text, s) for s in self._stop), default=0)
        self._held_back = text[len(text) - keep :]
        return text[: len(text) - keep]


def _hidden(tokenizer: Any, shown: Sequence[str]) -> frozenset[int]:
    """Return the control tokens without text."""
    added = tokenizer.added_tokens_decoder.items()
    control = {each for each, token in added if token.special and token.content not in shown}
    others = {i for i in tokenizer.all_special_ids if tokenizer.decode([i]) not in shown}
    return frozenset(control | others)


def partial_match(text: str, stop: str) -> int:
    """Return the length of the longest suffix of ``text`` that is a proper prefix of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-size:]):
            return size
    return 0
