"""The base's figures, measured once for a base and a set of prompts, and cached in a file."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.disk import write_atomically
from models.gate import Behaviour
from models.probes.questions import fingerprint
from models.probes.replies import OPERATOR_TOKENS, TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from models.base.loading import Base
    from models.gate.operator import OperatorPrompt
    from models.settings import LearnerSettings

_FOLDER = "gate-base"
_FORMAT = 1
"""The format of the cache; raise it when a figure changes its meaning."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KnownBase:
    """The base's figures.

    Attributes:
        behaviour: The figures on the gate's questions.
        operator_breaks: The number of rules that its reply to each operator's prompt breaks.
    """

    behaviour: Behaviour
    operator_breaks: tuple[int, ...]


def known_base(
    base: Base,
    operator: Sequence[OperatorPrompt],
    settings: LearnerSettings,
    measure: Callable[[], KnownBase],
) -> KnownBase:
    """Return the cached figures of this base and these prompts; measure them if there are none."""
    path = settings.data_dir / _FOLDER / f"{_key(base, operator, settings)}.json"
    known = _read(path)
    if known is None or not _is_finite(known):
        known = measure()
        if _is_finite(known):
            _write(path, asdict(known))
        else:
            logger.error("The base's figures are not all numbers, so nothing passes: %s", known)
    return known


def _is_finite(known: KnownBase) -> bool:
    """Return whether all figures are finite; only finite figures are cached, because they last."""
    return all(map(math.isfinite, asdict(known.behaviour).values()))


def questions_fingerprint() -> str:
    """Return a hash of the questions and of the figures' meaning; equal hashes are comparable."""
    return _digest([_FORMAT, fingerprint(), TOKENS])


def _key(base: Base, operator: Sequence[OperatorPrompt], settings: LearnerSettings) -> str:
    rules = [asdict(prompt) for prompt in operator]
    parts = [questions_fingerprint(), base.content_hash, settings.dtype, settings.device, rules]
    return _digest([*parts, OPERATOR_TOKENS])


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _read(path: Path) -> KnownBase | None:
    """Return the figures in a file; None if it is missing or broken."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        breaks = tuple(int(count) for count in raw["operator_breaks"])
        return KnownBase(Behaviour.from_dict(raw["behaviour"]), breaks)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s cannot be read (%s): the base is measured again.", path, error)
        return None


def _write(path: Path, known: dict[str, Any]) -> None:
    """Write a file as a whole; the next gate measures again where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(known, indent=2).encode())
    except OSError as error:
        logger.warning("%s cannot be written: %s", path, error)
