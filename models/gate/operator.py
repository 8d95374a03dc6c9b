"""Reads the operator's prompts, with patterns that replies must or must not match.

Each line of a ``*.jsonl`` file is a JSON object with ``prompt`` (or ``messages``), ``must`` and
``must_not``. The last two are lists of regular expressions, each searched for in the reply. The
package ``regex`` searches, because it can time out; ``re`` would hang on ``(a+)+$``.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import regex

from models.errors import GateError
from models.types import Message

if TYPE_CHECKING:
    from pathlib import Path

MAX_PROMPTS = 100
MAX_BYTES = 1 << 20
MAX_PATTERN_LENGTH = 500
"""The most characters of a pattern."""
MAX_PATTERNS = 20
"""The most patterns in a list."""
MAX_COPIES = 1_000_000
"""The most copies that the nested counts of a pattern may ask for. Compiling writes every copy out,
so ``((a{999}){999}){999}`` would take minutes and all memory."""
MATCH_SECONDS = 0.5
_COUNT = re.compile(r"\{\s*(\d+)|,\s*(\d+)\s*\}")
_SURROGATE = re.compile("[\ud800-\udfff]")
"""A surrogate: half a character, which JSON can contain and no tokenizer can read."""
_ROLES = ("system", "user", "assistant")
_KEYS = {"prompt", "messages", "must", "must_not"}


@dataclass(frozen=True, slots=True)
class OperatorPrompt:
    """One prompt of the operator, with its rules.

    Attributes:
        where: The file and line of the prompt, for messages.
        messages: The conversation to reply to.
        must: The patterns that the reply must contain.
        must_not: The patterns that the reply must not contain.
    """

    where: str
    messages: tuple[Message, ...]
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()

    def broken(self, reply: str) -> tuple[str, ...]:
        """Describe each rule that a reply breaks; a pattern that times out counts as broken."""
        found = {p: _found(p, reply) for p in (*self.must, *self.must_not)}
        lacking = [f"lacks /{p}/" for p in self.must if found[p] is False]
        present = [f"has /{p}/" for p in self.must_not if found[p]]
        endless = [
            f"/{p}/ took longer than {MATCH_SECONDS:g} s: make it simpler"
            for p, known in found.items()
            if known is None
        ]
        return (*lacking, *present, *endless)


def read_operator_prompts(folder: Path) -> list[OperatorPrompt]:
    """Return the prompts of all files of a folder, by name and line; none without a folder.

    Raises:
        GateError: A file cannot be read, or a line is invalid; the message names it and says why.
    """
    files = sorted(folder.glob("*.jsonl"))
    prompts = [prompt for file in files for prompt in parse(file.name, _text(file))]
    if len(prompts) > MAX_PROMPTS:
        raise GateError(
            f"{folder} has {len(prompts)} prompts, but the gate asks at most {MAX_PROMPTS}: "
            "every one is answered before each update goes live. Keep those that matter most."
        )
    return prompts


def parse(name: str, text: str) -> list[OperatorPrompt]:
    """Return the prompts of a file's text; empty lines are skipped.

    Raises:
        GateError: A line is invalid.
    """
    lines = enumerate(text.split("\n"), start=1)  # JSON strings may contain other line separators
    return [_prompt(f"{name}:{number}", line) for number, line in lines if line.strip()]


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise GateError(f"{file} is larger than {MAX_BYTES} bytes: divide or shorten it.")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GateError(f"The gate's prompts in {file} cannot be read: {error}") from error


def _prompt(where: str, line: str) -> OperatorPrompt:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GateError(f"{where} is not JSON: {error}") from error
    if not isinstance(raw, dict) or (unknown := raw.keys() - _KEYS):
        what = f"has {', '.join(sorted(unknown))}" if isinstance(raw, dict) else "is no object"
        raise GateError(f"{where} {what}: a line has {', '.join(sorted(_KEYS))} and nothing else.")
    must, must_not = (_patterns(where, key, raw.get(key, [])) for key in ("must", "must_not"))
    if not must and not must_not:
        raise GateError(f"{where} has neither must nor must_not: it would check nothing.")
    return OperatorPrompt(where, _messages(where, raw), must, must_not)


def _messages(where: str, raw: dict[str, Any]) -> tuple[Message, ...]:
    if ("prompt" in raw) == ("messages" in raw):
        raise GateError(f"{where} needs either prompt or messages.")
    messages = raw.get("messages", [{"role": "user", "content": raw.get("prompt")}])
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise GateError(f"{where}: a prompt is a text; messages are objects with role and content.")
    return tuple(Message(message["role"], message["content"]) for message in messages)


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.get("role") in _ROLES
        and isinstance(message.get("content"), str)
        and bool(message["content"].strip())
        and not _SURROGATE.search(message["content"])
    )


def _patterns(where: str, key: str, raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(p, str) and p for p in raw):
        raise GateError(f"{where}: {key} is a list of regular expressions.")
    if len(raw) > MAX_PATTERNS:
        raise GateError(f"{where}: {key} has more than {MAX_PATTERNS} patterns: join some by |.")
    for pattern in raw:
        if len(pattern) > MAX_PATTERN_LENGTH:
            raise GateError(
                f"{where}: a pattern in {key} has more than {MAX_PATTERN_LENGTH} characters."
            )
        if _copies(pattern) > MAX_COPIES:
            raise GateError(
                f"{where}: the repeats of /{pattern}/ multiply to too much: use * or +."
            )
        try:
            regex.compile(pattern)
        except (regex.error, ValueError, RecursionError, OverflowError, MemoryError) as error:
            raise GateError(f"{where}: /{pattern}/ is not a regular expression: {error}") from error
    return tuple(raw)


def _copies(pattern: str) -> int:
    """Return the most copies of the innermost part, as if all repeats were nested."""
    return math.prod(max(1, int(least or most)) for least, most in _COUNT.findall(pattern))


def _found(pattern: str, reply: str) -> bool | None:
    """Return whether a reply contains a pattern; None if the search timed out."""
    try:
        return regex.search(pattern, reply, timeout=MATCH_SECONDS) is not None
    except TimeoutError:
        return None
