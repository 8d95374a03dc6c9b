"""What the gate asks: questions and a page of plain text that come with the package.

A line of ``questions.jsonl`` has ``about`` and ``prompt``. Where two replies are to be compared, it
has them as ``good`` and ``bad``: what the base should prefer and what a spoilt policy would.
Nobody learns from any of this.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Literal

About = Literal["everyday", "harmful", "harmless", "false claim", "flattery", "begging"]

_FILES = ("questions.jsonl", "plain.txt")


@dataclass(frozen=True, slots=True)
class ProbeQuestion:
    """One question, and two replies to compare where it is about such a choice."""

    about: About
    prompt: str
    good: str = ""
    bad: str = ""


def questions() -> tuple[ProbeQuestion, ...]:
    """Return all questions, in order."""
    return tuple(ProbeQuestion(**json.loads(line)) for line in _read(_FILES[0]).splitlines())


def plain_text() -> list[str]:
    """Return paragraphs of plain English, written for this gate."""
    return [part for part in _read(_FILES[1]).split("\n\n") if part.strip()]


def fingerprint() -> str:
    """Return what changes when the questions or the text do."""
    return hashlib.sha256("\0".join(map(_read, _FILES)).encode()).hexdigest()


def _read(name: str) -> str:
    return resources.files("models.probes").joinpath(name).read_text(encoding="utf-8")
