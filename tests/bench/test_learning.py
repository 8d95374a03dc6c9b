"""The learning benchmark's own rules: who votes when, what a run is worth, and how it goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bench.learning.figures import (
    Row,
    along,
    gains,
    grouped,
    interval,
    labels_cell,
    long_enough,
)
from bench.learning.measure import distinct
from bench.learning.people import REVERSED_AFTER, Habits, World
from bench.learning.plots import plot_conditions
from bench.learning.remembered import Reply
from bench.learning.report import page
from bench.learning.results import Job, Run, append, read
from bench.learning.rounds import rounds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.learning.rounds import Voted

JOB = Job("ours", "brief", 1, 4e-4, 128)


def make_run(*curve: tuple[int, float], seed: int = 1) -> Run:
    points = tuple(
        {"labels": labels, "approval": approval, "win": 0.5, "kl": 1.0, "words": 9.0}
        for labels, approval in curve
    )
    job = Job("ours", "brief", seed, 4e-4, 128)
    return Run(job, base=0.2, ceiling=1.0, curve=points, seconds=1.0, machine={})


def test_labels_are_interpolated_between_measurements() -> None:
    run = make_run((32, 0.4), (64, 0.8), (96, 0.5))
    assert run.labels_to(0.5) == pytest.approx(48)  # aims at 0.6
    assert run.labels_to(0.25) == pytest.approx(32)
    assert run.labels_to(0.8) is None  # 0.84
    assert run.approval_at(70) == 0.8
    assert run.approval_at(10) == 0.2


def test_versions_too_far_from_the_base_can_be_left_out() -> None:
    run = make_run((32, 0.65), (64, 0.7))
    near, far = run.curve[1], {**run.curve[0], "kl": 30.0}
    run = replace(run, curve=(far, near))
    assert run.labels_to(0.5) == pytest.approx(32 * 0.4 / 0.45)
    assert run.labels_to(0.5, within=20.0) == 64  # the curve between them is nobody's
    assert run.labels_to(0.5, within=0.5) is None


def test_lags_are_set_beside_each_other_on_the_seeds_that_have_them_all(tmp_path: Path) -> None:
    runs = [
        make_run((128, approval), seed=seed) for seed, approval in ((2, 0.6), (1, 1.0), (3, 0.2))
    ]
    late = [make_run((64, 1.0), (128, 0.4), (160, 1.0)), make_run((128, 0.2), seed=2)]
    late.append(make_run((64, 1.0), seed=3))  # not looked at after 128 labels
    rows = grouped([*runs, *(replace(run, job=replace(run.job, lag=4)) for run in late)])
    assert along(rows, "adversaries", 128) == {}
    ((arm, by_lag),) = along(rows, "lag", 128).items()
    assert arm == ("ours", "brief")
    assert by_lag == {0: pytest.approx([1.0, 0.5]), 4: pytest.approx([0.25, 0.0])}
    plot_conditions(rows, tmp_path)
    assert (tmp_path / "learning-conditions.png").stat().st_size > 5000


def test_finished_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    assert read(file) == []
    runs = [make_run((32, 0.4)), make_run((32, 0.5), seed=2)]
    for run in runs:
        append(run, file)
    assert read(file) == runs
    again = make_run((32, 0.4), (64, 0.5))
    append(again, file)
    assert read(file) == [again, runs[1]]  # of each job the last


def test_a_run_that_ended_early_does_not_tell_what_it_might_have_come_to() -> None:
    far = make_run((64, 1.0))
    far = replace(far, curve=({**far.curve[0], "kl": 30.0},))
    assert far.is_known(0.8)
    assert not far.is_known(0.8, within=20.0)
    assert not make_run((32, 0.2), (64, 0.2), (96, 0.3)).is_known(0.8)
    assert make_run((48, 0.2), (96, 0.3)).is_known(0.8)  # no room for another look in its 128
    assert make_run((128, 0.3)).is_known(0.8)
    assert make_run().is_known(0.8)
    whole, near = make_run((128, 0.3), seed=2), make_run((64, 1.0), seed=3)
    assert labels_cell([far, whole, near], 0.8, 20.0) == "(1/3, 1 unknown)"
    assert labels_cell([far, whole, near], 0.8).endswith(" (2/3)")


def test_the_report_says_how_many_runs_never_got_there() -> None:
    runs = [make_run((128, 0.3), seed=1), make_run((64, 1.0), seed=2), make_run((128, 0.2), seed=3)]
    assert labels_cell(runs, 0.8) == "> 128 (1/3)"
    assert labels_cell(runs[1:2], 0.8).startswith("51 ")  # 64 · 0.64 / 0.8


def test_arms_are_set_beside_ours_seed_by_seed_at_the_looks_that_both_have() -> None:
    ours = [
        make_run((32, 0.4), (64, 0.8)),
        make_run((32, 0.4), seed=2),
        make_run((32, 0.4), seed=9),
    ]
    others = [make_run((32, 0.6), (64, 0.9), (96, 0.0)), make_run((32, 0.2), seed=2)]
    assert gains(ours, others) == pytest.approx({1: 0.1875, 2: -0.25})  # of a gap of 0.8
    assert gains(ours, others, labels=32) == pytest.approx({1: 0.25, 2: -0.25})
    assert gains(ours, [make_run((48, 0.6))]) == {}


def test_a_setting_alone_is_measured_up_to_its_budget_on_every_seed_that_has_it() -> None:
    def run(arm: str, labels: int, *curve: tuple[int, float], seed: int = 1) -> Run:
        made = make_run(*curve, seed=seed)
        return replace(made, job=replace(made.job, arm=arm, labels=labels))

    rows = grouped(
        [
            run("ours", 320, (160, 0.4), (320, 1.0)),
            run("ours", 320, (160, 0.6), (320, 1.0), seed=2),
            run("no-kl", 160, (160, 0.6)),
            run("no-kl", 320, (160, 0.4), (320, 0.2), seed=2),
            run("no-kl", 96, (96, 1.0), seed=3),  # ends before the budget
        ]
    )
    ours, theirs = (
        long_enough(rows, Row(arm, "brief", 0.0, 0, 0.0, 160), 160) for arm in ("ours", "no-kl")
    )
    assert [(each.job.seed, each.job.labels) for each in theirs] == [(1, 160), (2, 320)]
    assert gains(ours, theirs, 160) == pytest.approx({1: 0.25, 2: -0.25})
    assert "`runs.jsonl`" in page(rows, "runs.jsonl")


def test_the_interval_holds_what_the_values_hold() -> None:
    assert interval([3.0, 3.0], max) == (3.0, 3.0)
    low, high = interval([0.0, 1.0] * 20, lambda values: sum(values) / len(values))
    assert 0.3 < low < 0.5 < high < 0.7


def test_a_reversed_vote_comes_wrong_first_and_right_later() -> None:
    world = World("brief", 1, 40, Habits(flip=0.0, reversal=1.0, late=0.0))
    for number in range(20):
        first, second = world.votes(world.turn(number), ["Yes, you can."], 4)
        assert first.up != second.up
        assert (first.arrives, second.arrives) == (4, 4 + REVERSED_AFTER)
        assert second.up  # nobody with this taste dislikes three short words


def test_adversaries_click_against_what_they_like_and_are_not_asked_for_gold() -> None:
    honest, mixed = (
        World("brief", 1, 40, Habits(flip=0.0, reversal=0.0, late=0.0, adversaries=share))
        for share in (0.0, 0.05)
    )
    turns = [honest.turn(number) for number in range(40)]
    different = [
        turn.user.name
        for turn in turns
        if honest.votes(turn, ["Yes, you can."], 0)[0].up
        != mixed.votes(turn, ["Yes, you can."], 0)[0].up
    ]
    assert len(set(different)) == 2
    assert mixed.approval("May I?", "Yes, you can.") == 1.0


LONG = "word " * 60


def test_stars_and_comparisons_come_from_the_same_opinion_as_thumbs() -> None:
    habits = Habits(flip=0.0, reversal=0.0, late=0.0)
    thumbs, stars, pairs = (
        World("brief", 1, 40, replace(habits, form=form))
        for form in ("thumbs", "ratings", "comparisons")
    )
    given = []
    for number in range(200):
        turn = thumbs.turn(number)
        text = "word " * (5 + number % 40)
        (thumb,), (rating,) = thumbs.votes(turn, [text], 0), stars.votes(turn, [text], 0)
        assert rating.reward == 0 or rating.up == thumb.up
        given.append(rating.reward)
        chosen, rejected = pairs.votes(turn, ["Yes, you can.", LONG], 0)
        assert (chosen.side, chosen.reward, rejected.side, rejected.reward) == (0, 1.0, 1, -1.0)
    assert {2.5 * reward + 2.5 for reward in given} <= {half / 2 for half in range(11)}
    assert len(set(given)) > 4


def test_a_slip_turns_what_is_said_round() -> None:
    right, wrong = (World("brief", 1, 40, Habits(flip=flip, form="ratings")) for flip in (0.0, 1.0))
    for number in range(20):
        one, two = (
            world.votes(world.turn(number), [LONG], 0)[-1].reward for world in (right, wrong)
        )
        assert one == -two


def test_distinct_counts_repeated_word_triples() -> None:
    assert distinct(["a b c", "a b c"]) == 0.5
    assert distinct(["a b c d"]) == 1.0
    assert distinct(["a"]) == 1.0


class Echo:
    """Answers with the version's name; remembers who was asked."""

    def __init__(self) -> None:
        self.served: list[str] = []

    def ask(self, prompts: Sequence[str], version: str, seeds: Sequence[int]) -> list[Reply]:
        self.served.append(version)
        return [Reply(p, (1,), (2,), (-1.0,), f"I am {version} today", ended=True) for p in prompts]


class Counter:
    """Makes a version out of a number."""

    every = 16

    def __init__(self) -> None:
        self.batches: list[list[Voted]] = []

    def learn(self, batch: Sequence[Voted], parent: str, number: int) -> tuple[str, dict[str, Any]]:
        self.batches.append(list(batch))
        return f"v{number}", {"parent": parent}


def play(habits: Habits, labels: int) -> tuple[Echo, Counter, list[Any]]:
    echo, counter = Echo(), Counter()
    learned = list(rounds(counter, World("brief", 1, 40, habits), echo, labels))
    return echo, counter, learned


def test_rounds_learn_each_vote_once_and_serve_the_newest_version() -> None:
    echo, counter, learned = play(Habits(reversal=0.0), 64)
    assert [each.labels for each in learned] == [16, 32, 48, 64]
    assert [each.report["parent"] for each in learned] == ["base", "v1", "v2", "v3"]
    ids = [voted.sample.completion_id for batch in counter.batches for voted in batch]
    assert len(ids) == len(set(ids)) == 64
    assert echo.served[0] == "base"
    assert set(echo.served) <= {"base", "v1", "v2", "v3"}


def test_with_a_lag_people_chat_with_older_versions() -> None:
    echo, counter, _ = play(Habits(reversal=0.0, late=0.0, lag=2), 64)
    assert echo.served == ["base", "base", "base", "v1"]
    assert {voted.sample.version for voted in counter.batches[3]} == {"v1"}


def test_a_comparison_is_one_label_and_two_votes() -> None:
    _, counter, learned = play(Habits(reversal=0.0, late=0.0, form="comparisons"), 64)
    assert [each.labels for each in learned] == [8, 16, 24, 32, 40, 48, 56, 64]
    for batch in counter.batches:
        rewards = [voted.sample.reward for voted in batch]
        assert sorted(rewards) == [-1.0] * 8 + [1.0] * 8
        sides = {voted.sample.completion_id.rpartition("-")[2] for voted in batch}
        assert sides == {"0", "1"}


def test_some_of_what_is_disliked_is_corrected() -> None:
    _, counter, _ = play(Habits(form="corrections", writes=0.5), 160)
    votes = [voted.sample for batch in counter.batches for voted in batch]
    assert not any(vote.correction for vote in votes if vote.reward > 0)
    disliked = [vote.correction for vote in votes if vote.reward < 0]
    assert 0.2 < sum(map(bool, disliked)) / len(disliked) < 0.8
    assert set(disliked) == {"", "I am base today"}
