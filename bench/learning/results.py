"""Finished runs of the learning benchmark, one JSON line each; a later start goes on from them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench.support.paths import RESULTS

if TYPE_CHECKING:
    from pathlib import Path

FILE = RESULTS / "learning.jsonl"
"""Runs with the control tastes."""
WIDE_FILE = RESULTS / "learning-wide.jsonl"
"""Runs with many tastes."""
SEARCH_SEED = 100
"""Seeds from here on are for choosing settings, never for results."""


@dataclass(frozen=True, slots=True)
class Job:
    """What fixes a run."""

    arm: str
    taste: str
    seed: int
    rate: float
    labels: int
    lag: int = 0
    adversaries: float = 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        base: Approval of the base on the held-out prompts.
        ceiling: Approval of the best of sixteen replies of the base.
        curve: For each measured version its labels and figures.
        seconds: How long it took.
        machine: On what (``machine.describe``).
    """

    job: Job
    base: float
    ceiling: float
    curve: tuple[dict[str, Any], ...]
    seconds: float
    machine: dict[str, Any]

    def labels_to(self, share: float, *, within: float = math.inf) -> float | None:
        """Return the labels after which ``share`` of the gap from base to ceiling was reached.

        Between two measurements the curve is a straight line; None if it never got there. What is
        further from the base than ``within`` nats a reply does not count.
        """
        aim = self.base + share * (self.ceiling - self.base)
        before, reached = 0.0, self.base
        for point in self.curve:
            labels, approval = point["labels"], point["approval"]
            if approval >= aim and point["kl"] <= within:
                part = (aim - reached) / (approval - reached) if reached < aim else 1.0
                return before + (labels - before) * part
            before, reached = labels, approval
        return None

    def is_known(self, share: float, *, within: float = math.inf) -> bool:
        """Whether ``labels_to`` is known: a run that ended early might have got there later.

        It might have if there was room for another measurement, one as far from the last as the
        first is from the start.
        """
        measured = [point["labels"] for point in self.curve]
        ended_early = bool(measured) and measured[-1] + measured[0] <= self.job.labels
        return self.labels_to(share, within=within) is not None or not ended_early

    def approval_at(self, labels: int) -> float:
        """Return the approval of the last version measured within so many labels."""
        return self._at(labels, "approval", self.base)

    def win_at(self, labels: int) -> float:
        """Return the win-rate against the base of the last version measured within so many."""
        return self._at(labels, "win", 0.5)

    def kl_at(self, labels: int) -> float:
        """Return the nats a reply from the base of the last version measured within so many."""
        return self._at(labels, "kl", 0.0)

    def _at(self, labels: int, name: str, start: float) -> float:
        points = [(p["labels"], p[name]) for p in self.curve if p["labels"] <= labels]
        return max(points, default=(0, start))[1]


def read(path: Path = FILE) -> list[Run]:
    """Return all finished runs of a file, of each job the last; none if there is no file."""
    if not path.exists():
        return []
    runs = [_run(json.loads(line)) for line in path.read_text().splitlines()]
    return list({run.job: run for run in runs}.values())


def append(run: Run, path: Path = FILE) -> None:
    """Add a finished run."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run)) + "\n")


def _run(raw: dict[str, Any]) -> Run:
    return Run(**{**raw, "job": Job(**raw["job"]), "curve": tuple(raw["curve"])})
