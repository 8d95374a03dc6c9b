"""Compares one adapter in a batch with two: what rows of different versions cost."""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from bench.support.targets import Own

STREAMS = 16
ROUNDS = 3


def measure(own: Own, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all streams on one version, then half on each of two, in turns."""
    first, second = (f"policy@{manifest.version}" for manifest in own.manifests[:2])
    kinds = {"one": (first,), "two": (first, second)}
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for number in range(ROUNDS):
        for kind, models in kinds.items():
            load = own.target.load(options, STREAMS, models=models, seed=number)
            runs[kind].append(own.target.measure(load))
            rate = runs[kind][-1]["tokens_per_second"]
            sys.stderr.write(f"{kind} version(s), round {number + 1}: {rate} tokens/s\n")
    rates = {
        kind: statistics.median(run["tokens_per_second"] for run in done)
        for kind, done in runs.items()
    }
    return {
        "streams": STREAMS,
        "tokens_per_second": {kind: round(rate, 1) for kind, rate in rates.items()},
        "two_over_one": round(rates["two"] / rates["one"], 3),
        "runs": runs,
    }
