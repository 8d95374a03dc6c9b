from __future__ import annotations

import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from feedback.types import Audit, Judgement, Replica
from models.adapters import WEIGHTS_FILE
from models.versions import Activate
from service.cli import app

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.service.operator import Operator


@pytest.fixture
def two(operator: Operator) -> tuple[str, str]:
    """Two approved versions, of which the first is live."""
    first, second = operator.add_version(1), operator.add_version(2)
    operator.run("versions", "activate", first)
    return first, second


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "service.cli.asking.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    )


def report(operator: Operator, **fields: Any) -> None:
    """Let a replica say what it serves."""
    said = {"id": "r1", "serving": "base", "loaded": ("base",), "generation": 0} | fields
    replica = Replica(**said, seen_at=time.time())
    operator.in_store(lambda store: store.replicas.report(replica, timedelta(seconds=10)))


def state(operator: Operator, version: str) -> str:
    return operator.in_store(lambda store: store.versions.get(version)).state


def live(operator: Operator) -> str:
    return operator.in_store(lambda store: store.rollout.get()).live


def test_a_canary_is_started_changed_and_stopped(operator: Operator, two: tuple[str, str]) -> None:
    _, second = two
    started = operator.ask("canary", "start", second, "--fraction", "0.2", "--why", "a try")
    assert (started["canary"], started["fraction"]) == (second, 0.2)
    assert operator.ask("canary", "start", second, "--fraction", "0.5")["fraction"] == 0.5
    status = operator.ask("canary", "status")
    assert (status["canary"], status["fraction"], status["judgement"]) == (second, 0.5, None)
    assert f"{second} serves 50 % of the users" in operator.run("canary", "status").stdout
    assert operator.ask("canary", "stop", "--yes")["canary"] is None
    assert state(operator, second) == "approved"
    assert "There is no canary" in operator.run("canary", "status").stdout
    assert "There is no canary" in operator.run("canary", "stop", "--yes", code=1).stderr


@pytest.mark.parametrize("fraction", ["0", "1.5", "-1"])
def test_a_share_is_above_0_and_at_most_1(
    operator: Operator, two: tuple[str, str], fraction: str
) -> None:
    result = operator.run("canary", "start", two[1], "--fraction", fraction, code=1)
    assert "above 0 and at most 1" in result.stderr


def test_a_canary_whose_files_were_altered_is_not_started(
    operator: Operator, two: tuple[str, str]
) -> None:
    (operator.data_dir / "adapters" / two[1] / WEIGHTS_FILE).write_bytes(b"other")
    assert "was altered" in operator.run("canary", "start", two[1], code=1).stderr
    assert operator.in_store(lambda store: store.rollout.get()).canary is None


def test_the_kill_switch_serves_the_base_and_pauses_learning(
    operator: Operator, two: tuple[str, str]
) -> None:
    first, second = two
    operator.run("canary", "start", second)
    (operator.data_dir / "adapters" / first / WEIGHTS_FILE).write_bytes(b"other")
    killed = operator.ask("rollout", "kill", "--why", "it begs", "--yes")
    assert (killed["live"], killed["canary"], killed["confirmed"]) == ("base", None, "base")
    assert operator.in_store(lambda store: store.learning.paused())
    newest = operator.ask("versions", "history", "--limit", "1")[0]
    assert (newest["action"], newest["old"], newest["new"], newest["why"]) == (
        "kill",
        first,
        "base",
        "it begs",
    )


@pytest.mark.parametrize(
    ("words", "would"),
    [
        (("versions", "rollback"), "base would be live."),
        (("rollout", "kill"), "Learning would be paused."),
        (("canary", "stop"), "would be approved."),
    ],
)
def test_what_is_taken_from_users_is_asked_about(
    operator: Operator, two: tuple[str, str], words: tuple[str, ...], would: str
) -> None:
    operator.run("canary", "start", two[1])
    before = operator.in_store(lambda store: store.rollout.get())
    refused = operator.run(*words, code=1).stderr
    assert (
        "There is no terminal to ask on: add --yes to agree, or --dry-run to see what would change."
    ) in refused
    dry = operator.ask(*words, "--dry-run")
    assert dry["dry_run"]
    assert dry["rollout"]["generation"] == before.generation + 1
    assert would in operator.run(*words, "--dry-run").stdout
    assert operator.in_store(lambda store: store.rollout.get()) == before


def test_a_dry_run_of_the_kill_switch_says_all_it_would_do(
    operator: Operator, two: tuple[str, str]
) -> None:
    first, second = two
    operator.run("canary", "start", second)
    dry = operator.ask("rollout", "kill", "--dry-run")
    assert dry["moves"] == [
        {"version": first, "old": "live", "new": "retired"},
        {"version": second, "old": "canary", "new": "approved"},
    ]
    assert dry["pauses_learning"]
    assert "Learning would be paused." in operator.run("rollout", "kill", "--dry-run").stdout
    operator.run("rollout", "kill", "--yes")
    assert operator.run("rollout", "kill", "--dry-run").stdout == "Nothing would change.\n"


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_on_a_terminal_the_operator_is_asked(
    operator: Operator, two: tuple[str, str], terminal: None, answer: str, code: int
) -> None:
    first, _ = two
    result = CliRunner().invoke(app, ["versions", "rollback"], input=f"{answer}\n")
    assert result.exit_code == code
    assert f"base would be live. {first} would be rolled back. Roll back?" in result.stderr
    assert live(operator) == ("base" if answer == "y" else first)


def test_what_moved_while_the_operator_was_asked_stays(
    operator: Operator, two: tuple[str, str], terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = two

    def confirm(*_: object, **__: object) -> bool:
        thread = threading.Thread(
            target=operator.in_store,
            args=(
                lambda store: store.rollout.do(Activate(second), Audit("ann", "meanwhile", 9.0)),
            ),
        )
        thread.start()
        thread.join()
        return True

    monkeypatch.setattr("service.cli.asking.typer.confirm", confirm)
    result = CliRunner().invoke(app, ["versions", "rollback"])
    assert result.exit_code == 1
    assert f"The live version is {second} now" in result.stderr
    assert live(operator) == second


def test_a_version_is_confirmed(operator: Operator, two: tuple[str, str]) -> None:
    first, second = two

    async def promote(store: Store) -> None:
        await store.rollout.do(Activate(second), Audit("learner", "run 2", 9.0))

    operator.in_store(promote)
    assert operator.ask("rollout", "show")["confirmed"] == first
    assert operator.ask("versions", "confirm", second)["confirmed"] == second
    assert "Only the live version" in operator.run("versions", "confirm", first, code=1).stderr


def test_waiting_ends_well_once_all_replicas_have_it(
    operator: Operator, two: tuple[str, str]
) -> None:
    _, second = two
    done = threading.Event()

    async def follow(store: Store) -> None:
        while not done.is_set():
            rollout = await store.rollout.get()
            for name in ("r1", "r2"):
                await store.replicas.report(
                    Replica(name, rollout.live, (), rollout.generation, time.time()),
                    timedelta(seconds=10),
                )
            time.sleep(0.02)  # noqa: ASYNC251 - a thread of its own, with nothing else to do

    report(operator, id="r1")
    thread = threading.Thread(target=operator.in_store, args=(follow,))
    thread.start()
    try:
        answer = operator.ask("versions", "activate", second, "--wait", "20")
    finally:
        done.set()
        thread.join()
    assert answer["live"] == second
    assert answer["settled"]["all"]


def test_waiting_in_vain_says_who_lacks_it_and_fails(
    operator: Operator, two: tuple[str, str]
) -> None:
    report(operator, id="r1", generation=100)
    report(operator, id="r2", problem="The disk is full.", read_generation=100)
    result = operator.run("versions", "activate", two[1], "--wait", "0.1", code=1)
    assert "1 of 2 replicas serve the change" in result.stdout
    assert "r2 serves base: The disk is full." in result.stdout
    assert live(operator) == two[1]


def test_waiting_where_nobody_serves_fails(operator: Operator, two: tuple[str, str]) -> None:
    result = operator.run("rollout", "kill", "--yes", "--wait", "0.1", code=1)
    assert "No replica reports" in result.stdout


def test_the_rollout_is_shown_with_its_replicas_and_the_verdict(
    operator: Operator, two: tuple[str, str]
) -> None:
    first, second = two
    operator.run("canary", "start", second, "--fraction", "0.25")
    judgement = Judgement(
        time.time(),
        "hold",
        test=(second,),
        control=(first,),
        reasons=("About 40 more votes are needed: too few.",),
        votes_needed=40,
    )
    operator.in_store(lambda store: store.judging.write(judgement))
    report(operator, id="r1", serving=first, generation=2, url="http://127.0.0.1:8000")
    report(operator, id="r2", serving="base", generation=1, problem="It cannot be loaded.")
    shown = operator.run("rollout", "show", code=1).stdout
    assert f"canary     {second}, 25 % of the users" in shown
    assert f"undecided on {second} against {first}" in shown
    assert "About 40 more votes are needed: too few." in shown
    lines = {line.split()[0]: line for line in shown.splitlines() if line.startswith("r")}
    assert "http://127.0.0.1:8000" in lines["r1"]
    assert " yes " in lines["r1"]
    assert " no " in lines["r2"]
    assert lines["r2"].rstrip().endswith("It cannot be loaded.")
    found = operator.ask("rollout", "show", code=1)
    assert (found["live"], found["canary"], found["paused"]) == (first, second, False)
    assert found["judgement"]["votes_needed"] == 40
    assert [each["id"] for each in found["replicas"]] == ["r1", "r2"]
    report(operator, id="r2", serving=first, generation=2)
    operator.run("rollout", "show")


def test_versions_are_a_table_that_a_person_can_read(
    operator: Operator, two: tuple[str, str]
) -> None:
    first, _ = two
    counted = {"up": 8, "down": 2, "figures": '{"kl_per_reply": 1.234}'}
    operator.raw_redis.hset(f"tl:version:{first}", mapping=counted)
    header, *rows = operator.run("versions", "list").stdout.splitlines()
    assert header.split() == ["version", "state", "approval", "votes", "KL", "age", "by"]
    row = next(row for row in rows if row.startswith(first))
    # Wilson's interval of 8 in 10, as tables give it: 0.490 to 0.943.
    assert "live, confirmed  80% (49% to 94%)  10     1.23" in row
    assert "(command line)" in row
    listed = {each["version"]: each for each in operator.ask("versions", "list")}[first]
    assert listed["interval"] == pytest.approx([0.490, 0.943], abs=5e-4)
    assert (listed["kl"], listed["roles"]) == (1.234, ["live", "confirmed"])


@pytest.mark.parametrize("before", ["x", "1", "99999999999999999999-0", "1-\u0661", "1-1-1"])
def test_what_is_no_entry_is_told(operator: Operator, before: str) -> None:
    refused = operator.run("versions", "history", "--before", before, code=1)
    assert "is not an entry's id" in refused.stderr


def test_history_is_of_all_or_of_one_version_and_goes_on(
    operator: Operator, two: tuple[str, str]
) -> None:
    first, second = two
    operator.run("versions", "activate", second, "--why", "better")
    every = operator.ask("versions", "history")
    assert [each["action"] for each in every[:2]] == ["activate", "activate"]
    assert operator.ask("versions", "history", "--before", every[0]["id"]) == every[1:]
    of_second = operator.ask("versions", "history", second)
    assert {second} <= {of_second[0]["new"]}
    assert all(second in {each["old"], each["new"]} for each in of_second)
    table = operator.run("versions", "history", first).stdout
    assert "better" in table
    assert operator.run("versions", "history", "v000009-0123456789ab", code=1).stderr
