"""Runs honest and poisoned adapters through the gate, and counts which pass and what stops others.

Our learner makes the honest ones from the votes of simulated people. Poisoned ones are taught in a
few quick steps to praise, to flatter, to ramble or to loop, or are noise. Adapters and their
figures are kept in ``var/bench/gate``: a later start makes and measures only what is missing, and
compares old figures with the present bounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.gated.kept import Kept
from bench.gated.make import make_missing
from bench.support.machine import describe, write_results
from bench.support.own_server import share_base
from bench.support.paths import ROOT
from models.gate import Behaviour, GateBounds, GateFigures, decide
from models.learning.learner import Learner
from models.probes.known_base import questions_fingerprint
from models.settings import LearnerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.gated.kept import Made
    from models.gate import Check, GateVerdict

RATIOS = {"length", "common words", "perplexity"}
"""Checks whose bounds are multiples of the base's figure."""
FOLDER = ROOT / "var" / "bench" / "gate"


class Measured:
    """Figures by version, in a file that also says with which questions they were measured."""

    def __init__(self, folder: Path, settings: LearnerSettings) -> None:
        self._file, self._settings = folder / "figures.jsonl", settings
        self._mark = questions_fingerprint()
        self._learner: Learner | None = None
        self._known: dict[str, dict[str, Any]] = {}
        if self._file.exists():
            rows = map(json.loads, self._file.read_text(encoding="utf-8").splitlines())
            self._known = {row["version"]: row for row in rows if row["mark"] == self._mark}

    def get(self, made: Made) -> tuple[GateFigures, float]:
        """Return what was measured of an adapter, and the processor seconds that it took."""
        row = self._known.get(made.version) or self._measure(made.version)
        raw = dict(row["figures"])
        for name in ("candidate", "base"):
            raw[name] = raw[name] and Behaviour.from_dict(raw[name])
        return GateFigures(**{**raw, "operator": (), "samples": ()}), row["seconds"]

    def _measure(self, version: str) -> dict[str, Any]:
        self._learner = self._learner or Learner(self._settings)
        before = time.process_time()
        figures = self._learner.probe(version, lambda _: None)
        seconds = round(time.process_time() - before, 1)
        row = {
            "version": version,
            "mark": self._mark,
            "seconds": seconds,
            "figures": figures.as_dict(),
        }
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._known[version] = row
        return row


def judged(
    kept: Kept, measured: Measured, bounds: GateBounds
) -> Iterator[tuple[Made, GateVerdict, float]]:
    """Yield each adapter with its verdict."""
    for made in sorted(kept.all, key=lambda made: made.kind != "honest"):
        figures, seconds = measured.get(made)
        verdict = decide(figures, bounds)
        sys.stderr.write(f"{made.kind} {made.name}: {verdict.reason or 'passes'}\n")
        yield made, verdict, seconds


def summary(rows: Sequence[tuple[Made, GateVerdict, float]]) -> dict[str, Any]:
    """Return, by kind: how many pass, what stopped the others, and the range of each figure."""
    by_kind = groupby(sorted(rows, key=lambda row: row[0].kind), key=lambda row: row[0].kind)
    return {kind: _of_kind(list(group)) for kind, group in by_kind}


def _of_kind(rows: Sequence[tuple[Made, GateVerdict, float]]) -> dict[str, Any]:
    verdicts = [verdict for _, verdict, _ in rows]
    stopped = Counter(c.name for v in verdicts for c in v.checks if not c.passed)
    values: dict[str, list[float]] = {}
    for check in (c for v in verdicts for c in v.checks if c.value is not None):
        values.setdefault(check.name, []).append(compared(check))
    return {
        "adapters": len(rows),
        "pass": [made.name for made, verdict, _ in rows if verdict.passed],
        "stopped_by": dict(stopped.most_common()),
        "ranges": {name: _spread(found) for name, found in values.items()},
    }


def compared(check: Check) -> float:
    """Return a figure as its bound in the settings is meant: as it is, or beside the base's."""
    value, base = check.value or 0.0, check.base
    if base is None:
        return value
    return value / base if check.name in RATIOS else value - base


def _spread(values: Sequence[float]) -> list[float]:
    """Return least, median and most."""
    return [round(v, 3) for v in (min(values), statistics.median(values), max(values))]


def show(found: dict[str, Any]) -> None:
    """Print the table for people."""
    print(f"{'kind':<14}{'adapters':>9}{'pass':>6}  stopped by (how many)")
    for kind, of in found.items():
        stopped = ", ".join(f"{name} ({n})" for name, n in of["stopped_by"].items())
        print(f"{kind:<14}{of['adapters']:>9}{len(of['pass']):>6}  {stopped}")


def main() -> int:
    """Make and measure what is missing, and decide on all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--made", action="store_true", help="decide on what is made, make nothing")
    options = parser.parse_args()
    if not options.folder.exists():
        share_base(options.folder)
    # One thread, so that processor seconds are what it costs, however busy the machine is.
    settings = LearnerSettings(data_dir=options.folder, learner_threads=1, engine_threads=1)
    memory = options.folder.parent
    kept = Kept(options.folder) if options.made else make_missing(options.folder, settings, memory)
    bounds = settings.gate_bounds
    rows = list(judged(kept, Measured(options.folder, settings), bounds))
    found = summary(rows)
    show(found)
    figures = {"processor_seconds": _spread([s for _, _, s in rows]), "bounds": bounds.model_dump()}
    write_results("gate", {**describe(), **figures, "kinds": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
