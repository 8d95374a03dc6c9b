"""Simulates thousands of comparisons: how often the judge errs, and how many votes it needs.

People differ in how strict they are and in how much they vote. Each comparison is judged after
every ten votes until it is decided or its votes run out. Everything but the people is the judge's
own.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.support.machine import describe, write_results
from feedback.judging.evidence import Ballots, approval_difference
from feedback.judging.verdict import decided
from feedback.settings import JudgeSettings
from feedback.wilson import wilson_interval

if TYPE_CHECKING:
    from feedback.judging import JudgeBounds

APPROVAL = 0.65
STRICTNESS = 0.2
"""Standard deviation of the people's own rates of approval."""
ACTIVITY = 1.0
"""Standard deviation of the logarithm of how much they vote: keen ones a hundred times as much."""
LOOK_VOTES = 10
VOTES_PER_MINUTE = 60
LENT_VOTES = 300
"""As workers/judge.py has it: where the confirmed version has fewer, older ones lend theirs."""
AT_ONCE = 200


@dataclass(frozen=True)
class Scenario:
    """One kind of comparison.

    Attributes:
        share: Of the people, who get the canary; None without one.
        change: What the newer version does to everybody's rate of approval.
        people: How many vote.
        votes: After so many the comparison is left undecided.
        before: Without a canary: votes on the confirmed version.
        colluders: Share of accounts that vote five times as much, and against the newer version.
        helpers: The same, for it.
        drift: What the time alone does to approval, after a version without a canary.
        life: Whether the comparison is followed by another, with an equal version, when it is
            confirmed.
    """

    name: str
    share: float | None
    change: float
    people: int = 500
    votes: int = 4000
    before: int = 0
    colluders: float = 0.0
    helpers: float = 0.0
    drift: float = 0.0
    life: bool = False
    runs: int = 400


def _canary(share: float, people: int, votes: int) -> list[Scenario]:
    of = f"canary {share:.0%}, {people} people"
    return [
        Scenario(f"{of}: no difference", share, 0.0, people, votes, runs=1000),
        *(
            Scenario(f"{of}: {-100 * change:.0f} points worse", share, change, people, votes)
            for change in (-0.1, -0.2, -0.3)
        ),
    ]


def _watched(before: int, people: int) -> list[Scenario]:
    of = f"no canary, {people} people, {before} votes before"
    return [
        Scenario(f"{of}: no difference", None, 0.0, people, 2000, before, runs=1000),
        *(
            Scenario(f"{of}: {-100 * change:.0f} points worse", None, change, people, 2000, before)
            for change in (-0.1, -0.2, -0.3)
        ),
    ]


SCENARIOS = (
    *_canary(0.5, 500, 4000),
    *_canary(0.1, 1000, 6000),
    *_canary(0.5, 40, 1000),
    *_watched(300, 500),
    *_watched(1000, 500),
    *_watched(300, 20),
    *_watched(300, 5),
    *_watched(16, 500),
    Scenario(
        "no canary, a life of equal versions", None, 0.0, 500, 3000, 300, life=True, runs=1000
    ),
    Scenario("canary 50%: no difference, 5 % against it", 0.5, 0.0, colluders=0.05),
    Scenario("canary 50%: 20 points worse, 5 % for it", 0.5, -0.2, helpers=0.05),
    Scenario(
        "no canary: no difference, 5 % against it", None, 0.0, 500, 2000, 1000, colluders=0.05
    ),
    Scenario(
        "no canary: all are 5 points stricter by now", None, 0.0, 500, 2000, 1000, drift=-0.05
    ),
    Scenario(
        "no canary: all are 10 points stricter by now", None, 0.0, 500, 2000, 1000, drift=-0.1
    ),
)


class Crowds:
    """Many runs of one scenario, each with people of its own; arrays are (runs, people)."""

    def __init__(self, scenario: Scenario, runs: int, draw: np.random.Generator) -> None:
        shape = (runs, scenario.people)
        spread = APPROVAL * (1 - APPROVAL) / STRICTNESS**2 - 1
        self._scenario, self._draw, self._rows = scenario, draw, np.arange(runs)
        self._rates = draw.beta(APPROVAL * spread, (1 - APPROVAL) * spread, shape)
        plotters = round((scenario.colluders + scenario.helpers) * scenario.people)
        self._plot = np.arange(scenario.people) < plotters
        weights = np.exp(draw.normal(0, ACTIVITY, shape)) * np.where(self._plot, 5.0, 1.0)
        reach = weights.cumsum(1) / weights.sum(1, keepdims=True)
        draws = draw.random((runs, scenario.before + scenario.votes))
        self._voters = iter(
            np.stack([np.searchsorted(r, d) for r, d in zip(reach, draws, strict=True)], axis=1)
        )
        self._on_canary = draw.random(shape) < (scenario.share or 0.0)
        self.test = Ballots(np.zeros(shape), np.zeros(shape))
        self.control = Ballots(np.zeros(shape), np.zeros(shape))
        for _ in range(scenario.before):
            self._vote(newer=False)

    def vote(self) -> None:
        """Let one person of each run vote."""
        self._vote(newer=None if self._scenario.share is not None else True)

    def weight_of_plotters(self, cap: float) -> float:
        """Return the share of the newer side's weight that they have."""
        weights = np.minimum(self.test.votes, cap)
        return float((weights[:, self._plot].sum(1) / weights.sum(1)).mean())

    def confirm(self, runs: Any) -> None:
        """Let the newer side be the confirmed one, and another begin."""
        few = (self.test.votes.sum(1) < LENT_VOTES) & runs
        for control, test in (
            (self.control.up, self.test.up),
            (self.control.votes, self.test.votes),
        ):
            control[runs] = test[runs] + np.where(few[runs, None], control[runs], 0.0)
            test[runs] = 0.0

    def _vote(self, *, newer: bool | None) -> None:
        scenario, rows = self._scenario, self._rows
        people = np.minimum(next(self._voters), scenario.people - 1)
        on_test = self._on_canary[rows, people] if newer is None else np.full(len(rows), newer)
        change = np.where(on_test, scenario.change + scenario.drift, 0.0)
        chance = np.clip(self._rates[rows, people] + change, 0, 1)
        bent = np.where(on_test, float(scenario.helpers > 0), float(scenario.colluders > 0))
        up = self._draw.random(len(rows)) < np.where(self._plot[people], bent, chance)
        for side, here in ((self.test, on_test), (self.control, ~on_test)):
            side.votes[rows, people] += here
            side.up[rows, people] += here & up


def simulate(scenario: Scenario, bounds: JudgeBounds, runs: int, seed: int) -> dict[str, Any]:
    """Return how runs of a scenario ended, and after how many votes."""
    draw = np.random.default_rng(seed)
    parts = [
        _run(Crowds(scenario, min(AT_ONCE, runs - start), draw), scenario, bounds)
        for start in range(0, runs, AT_ONCE)
    ]
    ends = np.concatenate([part[0] for part in parts])
    votes = np.concatenate([part[1] for part in parts])
    found: dict[str, Any] = {"runs": runs, "comparisons": len(ends)}
    for name, end in (("rolled back", -1), ("promoted", 1), ("undecided", 0)):
        share = float((ends == end).mean())
        _, upper = wilson_interval(int((ends == end).sum()), len(ends))
        found[name] = {"share": round(share, 4), "up to": round(upper, 4)}
        if end and (ends == end).any():
            median, most = np.percentile(votes[ends == end], (50, 90))
            found[name] |= {
                "votes, median": int(median),
                "votes, 90 %": int(most),
                "minutes, median": round(float(median) / VOTES_PER_MINUTE, 1),
            }
    if scenario.colluders or scenario.helpers:
        found["weight of 5 % of the accounts"] = round(float(np.mean([p[2] for p in parts])), 4)
    return found


def _run(crowds: Crowds, scenario: Scenario, bounds: JudgeBounds) -> tuple[Any, Any, float]:
    """Return the end of each comparison (-1, 0, 1), after how many votes, the plotters' weight."""
    runs = len(crowds.test.votes)
    going, begun = np.ones(runs, dtype=bool), np.zeros(runs)
    ends, votes = [], []
    for cast in range(1, scenario.votes + 1):
        crowds.vote()
        if cast % LOOK_VOTES:
            continue
        verdicts = np.where(going, _verdicts(crowds, scenario, bounds), 0)
        now = verdicts != 0
        ends.append(verdicts[now])
        votes.append((cast - begun)[now])
        if scenario.life:
            crowds.confirm(verdicts > 0)
            begun[now] = cast
            going &= verdicts >= 0
        else:
            going &= ~now
        if not going.any():
            break
    ends.append(np.zeros(int(going.sum())))
    votes.append(np.full(int(going.sum()), scenario.votes))
    weight = (
        crowds.weight_of_plotters(bounds.user_cap) if scenario.colluders + scenario.helpers else 0.0
    )
    return np.concatenate(ends), np.concatenate(votes), weight


def _verdicts(crowds: Crowds, scenario: Scenario, bounds: JudgeBounds) -> Any:
    difference = approval_difference(crowds.test, crowds.control, bounds.user_cap)
    enough = np.minimum(crowds.test.votes.sum(1), crowds.control.votes.sum(1)) >= bounds.min_votes
    return np.where(enough, decided(difference, bounds, together=scenario.share is not None), 0)


def main() -> None:
    """Simulate all scenarios, and write down what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, help="of each scenario, in place of its own number")
    parser.add_argument("--only", default="", help="scenarios whose names contain this")
    arguments = parser.parse_args()
    bounds = JudgeSettings().limits
    began, results = time.monotonic(), {}
    for seed, scenario in enumerate(SCENARIOS):
        if arguments.only not in scenario.name:
            continue
        found = simulate(scenario, bounds, arguments.runs or scenario.runs, seed)
        results[scenario.name] = found
        shares = [f"{end} {found[end]['share']:.1%}" for end in ("rolled back", "promoted")]
        print(f"{scenario.name}: {', '.join(shares)}", flush=True)
    figures = {
        "machine": describe(),
        "seconds": round(time.monotonic() - began),
        "bounds": asdict(bounds),
        "people": {"approval": APPROVAL, "strictness": STRICTNESS, "activity": ACTIVITY},
        "results": results,
    }
    if not arguments.runs and not arguments.only:
        write_results("judge", figures)


if __name__ == "__main__":
    main()
