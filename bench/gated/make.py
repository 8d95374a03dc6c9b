"""Makes all adapters that `bench.gate` runs through the gate."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench.gated.honest import CHAINS, make_chain
from bench.gated.kept import Kept
from bench.gated.poison import HACKS, Poisoner, poisons

if TYPE_CHECKING:
    from pathlib import Path

    from models.settings import LearnerSettings


def make_missing(folder: Path, settings: LearnerSettings, memory: Path) -> Kept:
    """Return what was made in ``folder``, all of it."""
    kept = Kept(folder)
    _make_poisons(kept, settings)
    for chain in CHAINS:
        if kept.has("honest", f"{chain.name}-{chain.judged[-1]}"):
            continue
        _say(f"honest {chain.name}")
        kept.add(make_chain(chain, settings, memory, kept.next_number() + HACKS))
    return kept


def _make_poisons(kept: Kept, settings: LearnerSettings) -> None:
    poisoner: Poisoner | None = None
    for poison in poisons():
        if kept.has(poison.kind, poison.name):
            continue
        poisoner = poisoner or Poisoner(settings)
        _say(f"{poison.kind} {poison.name}")
        kept.add([poisoner.make(poison, kept.next_number() + HACKS)])


def _say(text: str) -> None:
    sys.stderr.write(f"making {text}\n")
