"""Reads a reply as it grows: what is thought, what is said, and which tools are called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.decoding.text import partial_match
from service.chat.tool_calls import OTHER_SIGNS, SIGNS, read_calls

if TYPE_CHECKING:
    from collections.abc import Collection

    from models.types import ReplyStyle, Tool, ToolCall

_THINK, _THOUGHT = "<think>", "</think>"


def shown_tokens(style: ReplyStyle) -> tuple[str, ...]:
    """Return the control tokens that a reader needs to see in the text."""
    signs: tuple[str, ...] = (_THINK, _THOUGHT) if style.thinks else ()
    if style.tools is not None:
        found = SIGNS[style.tools]
        signs += tuple(each for each in (found.opens, found.closes, *OTHER_SIGNS) if each)
    return signs


def make_reader(
    style: ReplyStyle | None, tools: Collection[Tool], reply_id: str
) -> ReplyReader | None:
    """Return what reads a reply; None where the whole text is what is said."""
    if style is None:
        return None
    return ReplyReader(style, {each.name for each in tools}, reply_id)


def read_reply(
    text: str, style: ReplyStyle | None, tools: Collection[Tool], reply_id: str
) -> ReplyParts:
    """Return what is in a whole reply."""
    reader = make_reader(style, tools, reply_id)
    if reader is None:
        return ReplyParts(text)
    parts = reader.push(text)
    parts.add(reader.finish())
    return parts


@dataclass(slots=True)
class ReplyParts:
    """What a text added to a reply."""

    content: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)

    def add(self, other: ReplyParts) -> None:
        """Add what came later."""
        self.content += other.content
        self.reasoning += other.reasoning
        self.calls += other.calls


class ReplyReader:
    """Reads one reply. A call that is not well-formed, or of no tool that was offered, is text.

    Args:
        style: How the reply is to be read.
        tools: The names of the tools that were offered.
        reply_id: What the ids of calls are made of.

    Attributes:
        malformed: How many calls were not well-formed.
        calls: How many calls were found, of which a reader that is not parallel gives the first.
    """

    def __init__(self, style: ReplyStyle, tools: Collection[str], reply_id: str) -> None:
        self.malformed = 0
        self.calls = 0
        self._style, self._tools, self._id = style, tools, reply_id
        self._signs = SIGNS[style.tools] if style.tools else None
        self._stage = self._thought if style.opened else self._start
        self._pending = ""
        self._opened_by = ""  # the text behind which a call is awaited
        self._space = ""  # white space before what is pending, dropped before a call
        self._begun = False  # whether the current stage has given text
        self._trims = False  # whether white space at the beginning of the answer is dropped

    def push(self, text: str) -> ReplyParts:
        """Read on; text that may be the beginning of a sign is held back."""
        self._pending += text
        return self._read(last=False)

    def finish(self) -> ReplyParts:
        """Read what was held back, at the end of the reply."""
        return self._read(last=True)

    def _read(self, *, last: bool) -> ReplyParts:
        parts = ReplyParts()
        while self._stage(parts, last=last):
            pass
        return parts

    def _start(self, parts: ReplyParts, *, last: bool) -> bool:
        """Find out whether the reply begins with a thought; return whether to read on."""
        del parts
        text = self._pending.lstrip()
        if self._style.thinks and text.startswith(_THINK):
            self._pending, self._stage = text.removeprefix(_THINK), self._thought
            return True
        if self._style.thinks and not last and _THINK.startswith(text):
            return False
        self._stage = self._answer
        return True

    def _thought(self, parts: ReplyParts, *, last: bool) -> bool:
        """Take in a thought, without the white space around it."""
        text, found = self._take(_THOUGHT, last=last, trims=True)
        parts.reasoning += text
        if found or last:
            self._space, self._begun, self._trims = "", False, True
            self._stage = self._answer
        return found

    def _answer(self, parts: ReplyParts, *, last: bool) -> bool:
        """Take in what is said, up to a call."""
        if self._signs and self._signs.bare and not self._begun:
            text = self._pending.lstrip()
            if text[:1] == "{" or (text and not self._signs.opens):
                self._opened_by, self._stage = "", self._call
                return True
        opens = self._signs.opens if self._signs else ""
        text, found = self._take(opens, last=last, trims=self._trims)
        parts.content += text
        if found:
            self._opened_by, self._stage = opens, self._call
        elif self._space and (last or self._signs is None) and not self.calls:
            parts.content, self._space = parts.content + self._space, ""
        return found

    def _take(self, sign: str, *, last: bool, trims: bool) -> tuple[str, bool]:
        """Return the text before a sign, and whether the sign was there; it is taken away.

        White space behind the text is held back, and what may be the beginning of the sign.
        """
        text, found, rest = self._pending.partition(sign) if sign else (self._pending, "", "")
        if not found:
            kept = 0 if last or not sign else partial_match(text, sign)
            text, rest = text[: len(text) - kept], text[len(text) - kept :]
        self._pending = rest
        text = self._space + text
        if trims and not self._begun:
            text = text.lstrip()
        said = text.rstrip()
        self._space = text[len(said) :]
        self._begun = self._begun or bool(said)
        return said, bool(found)

    def _call(self, parts: ReplyParts, *, last: bool) -> bool:
        signs, style = self._signs, self._style.tools
        if signs is None or style is None:
            raise AssertionError("Calls are read only where tools were offered.")
        body, closed, rest = self._pending, "", ""
        if signs.closes:
            body, closed, rest = self._pending.partition(signs.closes)
        if not (closed or last):
            return False
        calls = read_calls(body, style, self._tools, f"{self._id}:{self.calls}")
        if calls:
            parts.calls += calls if self._style.parallel else calls[: not self.calls]
            self.calls += len(calls)
        else:
            # JSON that nobody took for a call is an answer in JSON.
            self.malformed += bool(self._opened_by or not signs.opens or '"name"' in body)
            parts.content += self._space + self._opened_by + body + closed
        self._pending, self._stage = rest, self._answer
        self._space, self._begun, self._trims = "", True, False
        return bool(rest)
