"""The operators' own prompts: ``*.jsonl`` files with patterns that replies must or must not match.

A line is a JSON object: ``prompt`` (or ``messages``), and ``must`` and ``must_not``, lists of
regular expressions of which each is searched for in the reply. Patterns are those of the package
``regex``, which gives up on one that takes too long; ``re`` would hang on ``(a+)+$``.
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

MOST_PROMPTS = 100
MOST_BYTES = 1 << 20
MOST_PATTERN = 500
"""Most characters of a pattern."""
MOST_PATTERNS = 20
"""Most patterns in a list."""
MOST_COPIES = 1_000_000
"""Most that the counts of a pattern may multiply to: compiling writes such repeats out, and
``((a{999}){999}){999}`` would take minutes and all memory."""
MATCH_SECONDS = 0.5
_COUNT = re.compile(r"\{\s*(\d+)|,\s*(\d+)\s*\}")
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which JSON can spell and no tokenizer can read."""
_ROLES = ("system", "user", "assistant")
_KEYS = {"prompt", "messages", "must", "must_not"}


@dataclass(frozen=True, slots=True)
class OperatorPrompt:
    """One line of an operator's file.

    Attributes:
        where: File and line, for people.
        must: Patterns that the reply has to match somewhere.
        must_not: Patterns that it must match nowhere.
    """

    where: str
    messages: tuple[Message, ...]
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()

    def broken(self, reply: str) -> tuple[str, ...]:
        """Return the rules that a reply breaks, in words; a rule nobody can tell of is broken."""
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
    """Return the prompts of all files of a folder, by name and line; none if there is no folder.

    Raises:
        GateError: A file cannot be read, or a line is not what it should be; which, and why.
    """
    files = sorted(folder.glob("*.jsonl"))
    prompts = [prompt for file in files for prompt in parse(file.name, _text(file))]
    if len(prompts) > MOST_PROMPTS:
        raise GateError(
            f"{folder} has {len(prompts)} prompts, but the gate asks at most {MOST_PROMPTS}: "
            "every one is answered before each update goes live. Keep those that matter most."
        )
    return prompts


def parse(name: str, text: str) -> list[OperatorPrompt]:
    """Read the lines of a file; empty ones are left out.

    Raises:
        GateError: A line is not what it should be.
    """
    lines = enumerate(text.split("\n"), start=1)  # JSON may hold other ends of lines in texts
    return [_prompt(f"{name}:{number}", line) for number, line in lines if line.strip()]


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise GateError(f"{file} is larger than {MOST_BYTES} bytes: divide or shorten it.")
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
    turns = raw.get("messages", [{"role": "user", "content": raw.get("prompt")}])
    if not isinstance(turns, list) or not turns or not all(map(_is_turn, turns)):
        raise GateError(f"{where}: a prompt is a text; messages are objects with role and content.")
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def _is_turn(turn: Any) -> bool:
    return (
        isinstance(turn, dict)
        and turn.get("role") in _ROLES
        and isinstance(turn.get("content"), str)
        and bool(turn["content"].strip())
        and not _SURROGATE.search(turn["content"])
    )


def _patterns(where: str, key: str, raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(p, str) and p for p in raw):
        raise GateError(f"{where}: {key} is a list of regular expressions.")
    if len(raw) > MOST_PATTERNS:
        raise GateError(f"{where}: {key} has more than {MOST_PATTERNS} patterns: join some by |.")
    for pattern in raw:
        if len(pattern) > MOST_PATTERN:
            raise GateError(f"{where}: a pattern in {key} has more than {MOST_PATTERN} characters.")
        if _copies(pattern) > MOST_COPIES:
            raise GateError(
                f"{where}: the repeats of /{pattern}/ multiply to too much: use * or +."
            )
        try:
            regex.compile(pattern)
        except (regex.error, ValueError, RecursionError, OverflowError, MemoryError) as error:
            raise GateError(f"{where}: /{pattern}/ is not a regular expression: {error}") from error
    return tuple(raw)


def _copies(pattern: str) -> int:
    """Return how often the innermost part is written out at most, when all repeats are nested."""
    return math.prod(max(1, int(least or most)) for least, most in _COUNT.findall(pattern))


def _found(pattern: str, reply: str) -> bool | None:
    """Whether a pattern is somewhere in a reply; None if that took too long to find out."""
    try:
        return regex.search(pattern, reply, timeout=MATCH_SECONDS) is not None
    except TimeoutError:
        return None
