"""Token ids to text as they come: whole characters only, and nothing past a stop string."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_INCOMPLETE = "\ufffd"


class TextStream:
    """Turns one reply's tokens into text that can be sent at once."""

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = [s for s in stop if s]
        self._ids: list[int] = []
        self._decoded_upto = 0  # ids whose text is settled
        self._context_from = 0  # ids re-decoded as context, since joining spaces depend on them
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Add a token; return the text that can be sent now.

        Sets ``stopped`` when a stop string is complete; the text before it is returned.
        """
        self._ids.append(token_id)
        return self._release(self._held + self._settle())

    def finish(self) -> str:
        """Return what was held back, once the reply ended without a stop string."""
        tail, self._held = self._held + self._settle(force=True), ""
        return tail

    def _settle(self, *, force: bool = False) -> str:
        before = self._decode(self._ids[self._context_from : self._decoded_upto])
        text = self._decode(self._ids[self._context_from :])
        if text.endswith(_INCOMPLETE) and not force:
            return ""
        self._context_from, self._decoded_upto = self._decoded_upto, len(self._ids)
        return text[len(before) :]

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _release(self, text: str) -> str:
        found = [i for i in (text.find(s) for s in self._stop) if i >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, s) for s in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of ``text`` that begins ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-size:]):
            return size
    return 0
