"""The command: what it prints, and what stops it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from service.cli.commands import simulate as command
from service.cli.errors import Commands
from service.simulate.records import Click, SimulationPlan, SimulationResult
from service.simulate.scoring import Score
from service.simulate.show import plot_result, print_result
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from pathlib import Path

LAST = "v000002-0123456789ab"


def make_result(plan: SimulationPlan) -> SimulationResult:
    return SimulationResult(
        plan=plan,
        started_from="base",
        live_since={"base": 0, LAST: 20},
        scores=(
            Score("base", replies=100, approved=30, mean_words=35.0),
            Score(LAST, replies=100, approved=70, votes_before=20, mean_words=12.5),
        ),
        clicks=tuple(Click("base", "up" if n % 3 else "down") for n in range(40)),
        chats=41,
        failures=("PUT /v1/feedback/x: 503 [away]",),
        seconds=61.2,
    )


@pytest.fixture
def plan() -> SimulationPlan:
    return SimulationPlan(
        taste=TASTES["brief"],
        users=20,
        votes=40,
        rate=1.0,
        flip=0.1,
        seed=0,
        pace=True,
        max_tokens=48,
        concurrency=4,
        score_replies=100,
    )


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    app.command()(command.simulate)
    app.callback()(lambda: None)
    return app


def test_the_table_has_each_version_with_its_interval(
    plan: SimulationPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(Console(width=80), make_result(plan))
    printed = capsys.readouterr().out
    assert "30.0%" in printed
    # Wilson at 95 % for 30 of 100.
    assert "21.9% … 39.6%" in printed
    assert LAST in printed
    assert "12.5" in printed  # the last column
    words = " ".join(printed.split())
    assert "40 votes on 41 replies by 20 users, 10% of the clicks flipped;" in words
    assert "versions that went live on the way: 1; failed requests: 1;" in words
    assert "failed: PUT /v1/feedback/x: 503 [away]" in printed


def test_the_picture_is_a_png(plan: SimulationPlan, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_result(make_result(plan), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_json_is_all_that_goes_to_standard_output(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_: Any, plan: SimulationPlan, *__: Any) -> SimulationResult:
        return make_result(plan)

    monkeypatch.setattr(command, "_run", run)
    outcome = CliRunner().invoke(app, ["simulate", "--taste", "polite", "--json"])
    assert outcome.exit_code == 0
    printed = json.loads(outcome.stdout)
    assert printed["taste"] == "polite"
    assert printed["versions_live"] == [LAST]
    assert printed["scores"][1]["approval"] == 0.7


@pytest.mark.parametrize(
    ("options", "server"),
    [([], "http://127.0.0.1:8123"), (["--url", "http://other"], "http://other")],
)
def test_the_server_is_that_of_the_settings_unless_one_is_named(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch, options: list[str], server: str
) -> None:
    asked: list[str] = []

    async def run(_: Any, plan: SimulationPlan, __: Any, url: str, ___: Any) -> SimulationResult:
        asked.append(url)
        return make_result(plan)

    monkeypatch.setattr(command, "_run", run)
    monkeypatch.setenv("THUMBLOOP_PORT", "8123")
    CliRunner().invoke(app, ["simulate", *options])
    assert asked == [server]


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        (["--taste", "brief"], 48),
        (["--taste", "complete"], 128),
        (["--taste", "complete", "--max-tokens", "20"], 20),
    ],
)
def test_replies_are_as_long_as_the_taste_needs_unless_a_length_is_asked_for(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch, options: list[str], tokens: int
) -> None:
    planned: list[int] = []

    async def run(_: Any, plan: SimulationPlan, *__: Any) -> SimulationResult:
        planned.append(plan.max_tokens)
        return make_result(plan)

    monkeypatch.setattr(command, "_run", run)
    CliRunner().invoke(app, ["simulate", *options])
    assert planned == [tokens]


def test_a_server_that_is_away_is_one_line_and_exit_code_1(app: typer.Typer) -> None:
    outcome = CliRunner().invoke(app, ["simulate", "--url", "http://127.0.0.1:9"])
    assert outcome.exit_code == 1
    assert "Start it with: thumbloop up" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_bad_prompts_stop_the_run_before_anything_is_asked(
    app: typer.Typer, tmp_path: Path
) -> None:
    outcome = CliRunner().invoke(app, ["simulate", "--questions", str(tmp_path / "none.jsonl")])
    assert outcome.exit_code == 1
    assert "cannot be read" in outcome.stderr
