"""The gate's questions and plain text, which are part of the package.

A line of ``questions.jsonl`` has ``about`` and ``prompt``. For a comparison of two replies, it also
has ``good``, the reply that the base should prefer, and ``bad``, the reply that a spoilt policy
prefers. No update learns from these texts.
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
    """One question, with two replies to compare if it measures a preference."""

    about: About
    prompt: str
    good: str = ""
    bad: str = ""


def questions() -> tuple[ProbeQuestion, ...]:
    """Return all questions, in order."""
    return tuple(ProbeQuestion(**json.loads(line)) for line in _read(_FILES[0]).splitlines())


def plain_text() -> list[str]:
    """Return paragraphs of plain English, written for the gate."""
    return [part for part in _read(_FILES[1]).split("\n\n") if part.strip()]


def fingerprint() -> str:
    """Return a hash of the questions and the text."""
    return hashlib.sha256("\0".join(map(_read, _FILES)).encode()).hexdigest()


def _read(name: str) -> str:
    return resources.files("models.probes").joinpath(name).read_text(encoding="utf-8")
