"""JSON as one line for every reader."""

from __future__ import annotations

_LINE_ENDS = {each: f"\\u{each:04x}" for each in (0x85, 0x2028, 0x2029)}
"""Valid in JSON's strings, but ends of lines to readers that follow Unicode (str.splitlines)."""


def one_line(text: str) -> str:
    """Return JSON with what ends a line escaped; JSON itself escapes all control characters."""
    return text if text.isascii() else text.translate(_LINE_ENDS)
