"""Learns from simulated people's votes, arm by arm, and counts the votes that each arm needs.

People with a hidden taste chat with a policy and vote; each arm learns from votes of the same
people under the same rules. After every few updates, held-out prompts show what share of the
honest users like the replies. Finished runs are kept in ``bench/results/learning.jsonl``, or in
``learning-wide.jsonl`` with tastes that are no control; a later start goes on with those that are
missing. ``bench.learning.report`` makes tables and plots.
The full form takes hours; ``--short`` takes minutes, and any part can be asked for by itself.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from bench.learning.arms import ARMS, make_student
from bench.learning.figures import GATE_NATS
from bench.learning.measure import HELD_OUT, Yardstick
from bench.learning.people import USERS, Habits, World
from bench.learning.replies import MEMORY, Replies
from bench.learning.results import FILE, SEARCH_SEED, WIDE_FILE, Job, Run, append, read
from bench.learning.rounds import rounds
from bench.learning.trl_rounds import trl_rounds
from bench.support.machine import describe
from bench.support.own_server import share_base
from bench.support.paths import RESULTS
from bench.support.progress import say
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.learning.rounds import Learned
    from models.settings import LearnerSettings

SHORT = {
    "arms": ["ours", "sft"],
    "tastes": ["brief"],
    "seeds": [1],
    "labels": 64,
    "out": RESULTS / "learning-short.jsonl",
}
"""What stands in for the hours of the full form where minutes are to be had."""


def run(job: Job, at: Sequence[int], until: float) -> Run:
    """Do one run on a throwaway data folder.

    Args:
        job: What to do.
        at: After how many labels a version is measured.
        until: The share of the gap from base to ceiling whose first sight ends the run, where the
            gate would let the version pass.
    """
    arm, began = ARMS[job.arm], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="thumbloop-learning-") as folder:
        share_base(Path(folder) / "data")
        settings = arm.settings(Path(folder) / "data", job.rate)
        habits = Habits(lag=job.lag, adversaries=job.adversaries, **arm.habits)
        world = World(job.taste, job.seed, USERS, habits)
        replies = Replies(settings, world.taste.tokens, MEMORY)
        yardstick = Yardstick(world, replies, HELD_OUT)
        (base, ceiling), curve = yardstick.bounds(), []
        say(f"{job}: base {base:.2f}, ceiling {ceiling:.2f}")
        due, enough = sorted(at), base + until * (ceiling - base)
        for learned in learning(job, settings, world, replies):
            if not due or learned.labels < due[0]:
                continue
            due = [labels for labels in due if labels > learned.labels]
            point = yardstick.measure(learned.version)
            curve.append({"labels": learned.labels, **point.as_dict(), "report": learned.report})
            who = f"{job.arm} {job.taste} {job.seed}"
            say(f"{who}: {learned.labels} labels, approval {point.approval:.2f}")
            if point.approval >= enough and point.kl <= GATE_NATS:
                break
    return Run(job, base, ceiling, tuple(curve), time.monotonic() - began, describe())


def learning(
    job: Job, settings: LearnerSettings, world: World, replies: Replies
) -> Iterator[Learned]:
    """Return an arm's versions, one after the other."""
    arm = ARMS[job.arm]
    if arm.kind != "trl":
        return rounds(make_student(arm, settings), world, replies, job.labels)
    order = {
        "method": job.arm,
        "taste": job.taste,
        "seed": job.seed,
        "rate": job.rate,
        "labels": job.labels,
        "users": USERS,
        "tokens": TASTES[job.taste].tokens,
        "adversaries": job.adversaries,
        "lag": job.lag,
    }
    return trl_rounds(order, settings)


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Yield the runs that are asked for, seed by seed, so that all arms grow alike."""
    for seed, taste, name in product(options.seeds, options.tastes, options.arms):
        for rate in options.rates or [ARMS[name].rate]:
            yield Job(name, taste, seed, rate, options.labels, options.lag, options.adversaries)


def default_file(tastes: Sequence[str]) -> Path:
    """Return where runs with such tastes are kept, apart where one of them is no control."""
    wide = any(TASTES[taste].half != "control" for taste in tastes)
    return WIDE_FILE if wide else FILE


def main() -> int:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument(
        "--tastes",
        nargs="+",
        choices=list(TASTES),
        default=[name for name, taste in TASTES.items() if taste.half == "control"],
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--rates", nargs="+", type=float, help="instead of each arm's own rate")
    parser.add_argument("--labels", type=int, default=320, help="the most that a run learns from")
    parser.add_argument(
        "--at",
        nargs="+",
        type=int,
        default=list(range(32, 1025, 32)),
        help="after how many labels a version is measured",
    )
    parser.add_argument(
        "--until",
        type=float,
        default=math.inf,
        help="share of the gap from base to best of 16 that ends a run where it is seen within the "
        "gate's bound on KL; 0.8 saves half of the time",
    )
    parser.add_argument("--lag", type=int, default=0, help="versions that people are behind")
    parser.add_argument("--adversaries", type=float, default=0.0, help="share of the users")
    parser.add_argument("--out", type=Path, help="where finished runs are kept")
    parser.add_argument(
        "--short", action="store_true", help="minutes: two arms, one taste, one seed, 64 labels"
    )
    if parser.parse_args().short:
        parser.set_defaults(**SHORT)
    options = parser.parse_args()
    if options.lag and any(ARMS[name].kind == "trl" for name in options.arms):
        parser.error("TRL's trainers know no late votes: ask for --lag of our own arms")
    if options.rates and min(options.seeds) < SEARCH_SEED:
        parser.error(f"choose rates on seeds of their own: --seeds from {SEARCH_SEED} on")
    wanted = list(jobs(options))
    out = options.out or default_file(options.tastes)
    finished = read(out)
    done = {each.job for each in finished if each.is_known(options.until, within=GATE_NATS)}
    for number, job in enumerate(wanted, start=1):
        if job in done:
            continue
        say(f"run {number}/{len(wanted)}")
        append(run(job, options.at, options.until), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
