"""The report over many tastes: what is closed of the gap, and which versions harm."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.learning import report
from bench.learning.report import wide_page
from bench.learning.results import FILE, WIDE_FILE, Job, Run, append
from bench.learning.run import default_file
from bench.learning.wide import (
    Harm,
    Key,
    Point,
    Setup,
    by_setup,
    closed,
    gained,
    harm,
    mean_over_tastes,
    points,
)

if TYPE_CHECKING:
    from pathlib import Path


def make_run(taste: str, *curve: tuple[int, float], arm: str = "ours", seed: int = 1) -> Run:
    """Return a run from an approval of 0.2 towards one of 0.6, at 5 nats."""
    measured = tuple({"labels": at, "approval": approval, "kl": 5.0} for at, approval in curve)
    job = Job(arm, taste, seed, 1.6e-3, 128)
    return Run(job, base=0.2, ceiling=0.6, curve=measured, seconds=1.0, machine={})


def make_point(approval: float, kl: float = 5.0) -> Point:
    return Point(base=0.5, approval=approval, closed=0.0, kl=kl)


def test_a_version_is_found_by_the_votes_after_which_it_was_measured() -> None:
    runs = [make_run("warm", (32, 0.3), (64, 0.5)), make_run("formal", (64, 0.1))]
    assert points(runs, 32) == {Key("warm", 1): Point(0.2, 0.3, pytest.approx(0.25), 5.0)}
    assert {key.taste: point.closed for key, point in points(runs, 64).items()} == pytest.approx(
        {"warm": 0.75, "formal": -0.25}
    )
    assert points(runs, 128) == {}


def test_a_taste_counts_once_however_many_seeds_it_has() -> None:
    found = mean_over_tastes({Key("warm", 1): 0.2, Key("warm", 2): 0.4, Key("formal", 1): 0.9})
    assert found is not None
    assert found.tastes == 2
    assert [found.mean, found.low, found.high] == pytest.approx([0.6, 0.3, 0.9])
    assert mean_over_tastes({}) is None


def test_arms_are_compared_on_the_tastes_and_seeds_that_both_have() -> None:
    ours = [make_run("warm", (64, 0.4)), make_run("formal", (64, 0.6))]
    theirs = [make_run("warm", (64, 0.3)), make_run("formal", (64, 0.2), seed=2)]
    found = gained(points(ours, 64), points(theirs, 64))
    assert found is not None
    assert found.tastes == 1
    assert found.mean == pytest.approx(-0.25)
    assert gained(points(ours[:1], 64), points(theirs[1:], 64)) is None


def test_harm_counts_what_the_gate_lets_pass_and_what_is_beyond_noise() -> None:
    # The standard error of a half over 128 replies is 0.5 / √128 = 0.0442; twice that is 0.0884.
    approvals = {"warm": 0.5, "formal": 0.49, "reasons": 0.413, "contrast": 0.41}
    found = {Key(taste, 1): make_point(approval) for taste, approval in approvals.items()}
    found[Key("brief", 1)] = make_point(0.1, kl=20.1)
    assert harm(found) == Harm(versions=4, below=3, beyond_noise=1)


def test_of_a_taste_and_seed_the_longest_run_that_was_measured_then_counts() -> None:
    short, long = make_run("warm", (32, 0.3)), make_run("warm", (32, 0.4), (256, 0.6))
    long = replace(long, job=replace(long.job, labels=256))
    ((setup, runs),) = by_setup([long, short]).items()
    assert setup == Setup("ours", 1.6e-3, 0, 0.0)
    found = closed(points(runs, 32))
    assert found is not None
    assert found.tastes == 1
    assert found.mean == pytest.approx(0.5)


def _sections(written: str) -> dict[str, str]:
    parts = written.split("\n## ")[1:]
    return {part.partition("\n")[0]: part for part in parts}


def test_the_page_has_the_halves_and_the_control_apart() -> None:
    runs = [
        make_run("warm", (32, 0.3), (64, 0.5)),
        make_run("reasons", (32, 0.5), (64, 0.3)),
        make_run("warm", (32, 0.1), arm="sft"),
        make_run("brief", (32, 0.6)),
    ]
    sections = _sections(wide_page(runs, "runs.jsonl"))
    assert list(sections) == ["Tastes to choose with", "Control", "Every run"]
    choosing = sections["Tastes to choose with"]
    assert "| ours | our learner with its defaults | 50 % [25, 75] (2) | 50 % [25, 75] (2) |" in (
        choosing
    )
    assert "| -25 % (1) |  |" in choosing
    assert "| -50 % (1) |\n" in choosing  # less than ours with the taste warm
    assert "| 0 of 2 (0) | 0 of 2 (0) |" in choosing
    assert "| 1 of 1 (1) |  |" in choosing  # 0.1 is more than 0.071 below 0.2
    assert "| 100 % (1) |" in sections["Control"]
    assert "| sft | warm | choosing | 1 | 0.20 | 0.60 | -25 %, 5 nats |  |" in sections["Every run"]


def test_conditions_are_named_and_compared_with_ours_under_the_same() -> None:
    job = Job("sft", "warm", 1, 2e-3, 128, lag=4, adversaries=0.05)
    curve = ({"labels": 32, "approval": 0.4, "kl": 5.0},)
    run = Run(job, base=0.2, ceiling=0.6, curve=curve, seconds=1.0, machine={})
    written = wide_page([run, make_run("warm", (32, 0.3))], "runs.jsonl")
    gains = written.partition("More of the gap")[2].partition("Versions that")[0]
    assert "| sft, rate 0.002, lag 4, 5 % adversaries |" in gains
    assert "(1)" not in gains


@pytest.mark.parametrize(
    ("tastes", "name"), [(["brief"], "learning.md"), (["brief", "warm"], "learning-wide.md")]
)
def test_a_file_makes_the_page_that_its_tastes_ask_for(
    tastes: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "runs.jsonl"
    for taste in tastes:
        append(make_run(taste, (32, 0.3)), file)
    monkeypatch.setattr(sys, "argv", ["report", "--runs", str(file), "--to", str(tmp_path)])
    monkeypatch.setattr(report, "plot_tastes", lambda *_: None)
    monkeypatch.setattr(report, "plot_conditions", lambda *_: None)
    assert report.main() == 0
    assert [path.name for path in tmp_path.glob("*.md")] == [name]


def test_runs_with_other_tastes_than_the_control_have_a_file_of_their_own() -> None:
    assert default_file(["brief", "plain"]) == FILE
    assert default_file(["brief", "warm"]) == WIDE_FILE
