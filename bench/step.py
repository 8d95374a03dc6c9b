"""Times single steps of the decoding engine's runners, without scheduler, text or HTTP.

For each number of rows: the base alone, all rows on one adapter, and rows on two adapters; then
prompt chunks. Medians over repeated steps, one runner after the other in each case.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.support.adapters import publish_adapters
from bench.support.decoding import prepared
from bench.support.machine import describe, write_results
from bench.support.own_server import share_base
from bench.support.progress import say
from models.base.loading import load_base
from models.decoding.runner import Segment
from models.decoding.runners import make_runner
from models.decoding.sampler import Draw
from models.settings import LearnerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.decoding.runner import Runner

ROWS = (1, 4, 16, 32)
CHUNKS = (64, 256)
WARMUP = 3
POSITION = 150
"""Tokens that each decoding row has behind it."""

DRAW = Draw(temperature=1.0, top_p=1.0, top_k=0, top_logprobs=0, uniform=0.5)


def decoding(rows: int, versions: Sequence[str | None]) -> list[Segment]:
    """Return one new token for each of so many rows, their versions in turn."""
    return [
        Segment(row, POSITION, [random.randrange(1000)], versions[row % len(versions)], DRAW)
        for row in range(rows)
    ]


def cases(versions: Sequence[str]) -> dict[str, list[Segment]]:
    """Return the steps that are timed, by name."""
    found = {}
    for rows in ROWS:
        found[f"{rows} rows, base"] = decoding(rows, [None])
        found[f"{rows} rows, one adapter"] = decoding(rows, versions[:1])
        found[f"{rows} rows, two adapters"] = decoding(rows, versions)
    for chunk in CHUNKS:
        ids = [random.randrange(1000) for _ in range(chunk)]
        found[f"prompt chunk of {chunk}, one adapter"] = [Segment(0, 0, ids, versions[0], DRAW)]
    return found


def milliseconds(runner: Runner, step: Sequence[Segment], adapters: Mapping[str, Any]) -> float:
    """Time one step."""
    if torch.get_num_threads() != runner.torch_threads:
        torch.set_num_threads(runner.torch_threads)
    began = time.perf_counter()
    runner.run(step, adapters)
    return 1000 * (time.perf_counter() - began)


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thumbloop-step-") as folder:
        data_dir = Path(folder)
        share_base(data_dir)
        versions = [manifest.version for manifest in publish_adapters(data_dir, 2)]
        runners: dict[str, Any] = {}
        for name in ("native", "transformers"):
            settings = LearnerSettings(data_dir=data_dir, dtype=options.dtype, runner=name)
            runner = make_runner(load_base(settings), settings)
            runners[name] = (runner, prepared(settings, runner, versions))
    figures: dict[str, Any] = {}
    for case, step in cases(versions).items():
        figures[case] = {}
        for name, (runner, adapters) in runners.items():
            times = [milliseconds(runner, step, adapters) for _ in range(options.repeats + WARMUP)]
            figures[case][name] = round(statistics.median(times[WARMUP:]), 2)
        say(f"{case:<36} {figures[case]}")
    about = {"machine": describe(), "options": vars(options)}
    write_results(f"step-{options.dtype}", {**about, "median_ms": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
