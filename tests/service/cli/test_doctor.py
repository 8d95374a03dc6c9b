from __future__ import annotations

import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feedback.types import Audit, Judgement, Replica, Rollout, Run
from models import failpoints
from models.adapters import WEIGHTS_FILE
from models.versions import Activate
from service.operating.checks.rollout import check_judge
from service.operating.checks.system import check_folder, check_python
from service.operating.checks.updates import check_updates
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from feedback.store import Store
    from feedback.types import RunState
    from service.operating.checks.findings import Finding
    from tests.support.service.operator import Operator

    Findings = Callable[[], dict[str, dict[str, Any]]]


@pytest.fixture
def findings(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> Findings:
    """Return the doctor's findings by check; no API runs, and no base is imported."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("THUMBLOOP_PORT", str(server.getsockname()[1]))

    def examine() -> dict[str, dict[str, Any]]:
        return {f["check"]: f for f in operator.ask("doctor", code=1)}

    return examine


def test_each_problem_comes_with_how_to_mend_it(findings: Findings) -> None:
    found = findings()
    assert found["redis"]["ok"]
    assert "appendfsync always" in found["redis"]["found"]
    problems = {check: f["mend"] for check, f in found.items() if not f["ok"]}
    assert problems.keys() == {"base model", "workers", "api"}
    assert "thumbloop models import" in problems["base model"]
    assert "thumbloop up" in problems["workers"]
    assert "thumbloop up" in problems["api"]


def test_workers_that_look_are_well(findings: Findings, operator: Operator) -> None:
    operator.in_store(lambda store: store.learning.looked(time.time()))
    assert findings()["workers"]["ok"]
    operator.in_store(lambda store: store.learning.looked(time.time() - 60))
    assert findings()["workers"]["found"] == "No worker has looked for work for 60 s."


def sweep(operator: Operator, seconds_ago: float) -> None:
    def use(store: Store) -> Any:
        return store.retention.sweep(now=time.time() - seconds_ago, seconds=1.0)

    operator.in_store(use)


def test_what_retention_did_is_told(findings: Findings, operator: Operator) -> None:
    operator.in_store(lambda store: store.learning.looked(time.time()))
    assert findings()["retention"]["found"] == "no sweep has run yet; 0 events in the log"
    sweep(operator, 61)
    found = findings()["retention"]
    assert found["ok"]
    assert found["found"].startswith("swept 6")
    assert found["found"].endswith("0 events in the log, of which 0 are not exported")


def test_silent_retention_is_a_problem_while_workers_look(
    findings: Findings, operator: Operator
) -> None:
    sweep(operator, 200)
    assert findings()["retention"]["ok"], "the workers are what is wrong"
    operator.in_store(lambda store: store.learning.looked(time.time()))
    found = findings()["retention"]
    assert not found["ok"]
    assert found["found"].startswith("Expired records have not been swept out for 20")
    assert "log" in found["mend"]


def test_a_rewrite_that_does_not_come_is_a_problem(findings: Findings, operator: Operator) -> None:
    operator.in_store(lambda store: store.learning.looked(time.time()))
    sweep(operator, 0)
    operator.raw_redis.hset("tl:retention", "rewrite", "wanted")
    assert "BGREWRITEAOF" in findings()["retention"]["mend"]


def test_a_redis_that_loses_votes_is_a_problem(findings: Findings, operator: Operator) -> None:
    def configure(value: str) -> None:
        operator.raw_redis.config_set("maxmemory-policy", value)

    configure("allkeys-lru")
    try:
        assert "noeviction" in findings()["redis"]["mend"]
    finally:
        configure("noeviction")


def test_a_damaged_live_version_is_a_problem(findings: Findings, operator: Operator) -> None:
    version = operator.add_version(1)
    operator.run("versions", "activate", version)
    assert findings()["live version"]["ok"]
    (operator.data_dir / "adapters" / version / WEIGHTS_FILE).unlink()
    found = findings()["live version"]
    assert not found["ok"]
    assert "rollback" in found["mend"]


def test_a_damaged_canary_or_confirmed_version_is_a_problem(
    findings: Findings, operator: Operator
) -> None:
    first, second, third = (operator.add_version(number) for number in (1, 2, 3))
    operator.run("versions", "activate", first)
    operator.in_store(lambda s: s.rollout.do(Activate(second), Audit("learner", "run 2", 9.0)))
    operator.run("canary", "start", third)
    found = findings()
    assert [found[name]["found"] for name in ("live version", "confirmed version", "canary")] == [
        second,
        first,
        third,
    ]
    for version in (first, third):
        (operator.data_dir / "adapters" / version / WEIGHTS_FILE).write_bytes(b"other")
    found = findings()
    assert found["live version"]["ok"]
    assert "confirm another" in found["confirmed version"]["mend"]
    assert "canary stop" in found["canary"]["mend"]


def test_a_replica_that_lags_is_named_with_its_reason(
    findings: Findings, operator: Operator
) -> None:
    assert findings()["replicas"]["ok"]
    version = operator.add_version(1)
    operator.run("versions", "activate", version)
    said = Replica("r1", "base", ("base",), 0, time.time(), "The disk is full.")
    operator.in_store(lambda store: store.replicas.report(said, timedelta(seconds=10)))
    found = findings()["replicas"]
    assert (found["ok"], found["found"]) == (False, "r1 serves base (The disk is full.)")


def test_a_silent_judge_is_a_problem_where_there_is_something_to_judge() -> None:
    def check(last: Judgement | None, live: str) -> Finding:
        rollout = Rollout(live, 1, confirmed="base")
        return check_judge(last, rollout, interval=10.0, now=1000.0)

    needs = Judgement(995.0, "hold", votes_needed=40)
    assert check(needs, "v1").found == "undecided, about 40 more votes needed"
    assert check(None, "base").ok
    for silent in (None, Judgement(900.0, "hold")):
        found = check(silent, "v1")
        assert not found.ok
        assert "beat" in found.mend


def _run(number: int, state: RunState, reason: str | None = None) -> Run:
    return Run(number, state, 1, "v7", (), "", 1, 0.0, reason=reason)


@pytest.mark.parametrize(
    ("runs", "ok", "found"),
    [
        ([], True, "no update run has ended yet"),
        ([_run(1, "claimed")], True, "no update run has ended yet"),
        ([_run(3, "committed"), _run(2, "approved")], True, "run 2 is approved"),
        (
            [_run(3, "rejected", "kl 21 > 20"), _run(2, "rejected"), _run(1, "approved")],
            True,
            "run 3 is rejected: kl 21 > 20",
        ),
        (
            [_run(4, "claimed"), *(_run(n, "rejected", "kl 21 > 20") for n in (3, 2, 1))],
            False,
            "3 rejected in a row; run 3 is rejected: kl 21 > 20",
        ),
        ([_run(1, "quarantined", "no log-probs")], False, "run 1 is quarantined: no log-probs"),
    ],
)
def test_updates_that_come_to_nothing_are_a_problem(runs: list[Run], ok: bool, found: str) -> None:
    finding = check_updates(runs)
    assert (finding.ok, finding.found) == (ok, found)
    assert bool(finding.mend) is not ok


def test_updates_of_the_record_are_looked_at(findings: Findings) -> None:
    assert findings()["updates"]["found"] == "no update run has ended yet"


def test_a_broken_prompt_of_the_operator_is_named_by_its_line(
    findings: Findings, operator: Operator
) -> None:
    assert findings()["gate prompts"]["found"] == "0 prompts of your own"
    folder = operator.data_dir / "gate"
    folder.mkdir()
    (folder / "mine.jsonl").write_text('{"prompt": "Hi", "must": ["hello"]}\n{"prompt": 3}\n')
    found = findings()["gate prompts"]
    assert not found["ok"]
    assert "mine.jsonl:2" in found["found"]


def test_no_redis_is_a_problem_and_not_the_end(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBLOOP_REDIS_URL", "redis://127.0.0.1:1")
    found = findings()
    assert not found["redis"]["ok"]
    assert "api" in found


def test_people_get_lines(operator: Operator, findings: Findings) -> None:
    findings()
    printed = operator.run("doctor", code=1).stdout
    assert "ok     python" in printed
    assert "wrong  api" in printed


def test_an_old_python_is_named() -> None:
    finding = check_python((3, 10, 4))
    assert (finding.ok, finding.found) == (False, "3.10.4")
    assert not check_python((3, 11, 3)).ok
    assert check_python((3, 11, 4)).ok


def test_a_data_folder_that_is_not_there(tmp_path: Path) -> None:
    finding = check_folder(ServiceSettings(data_dir=tmp_path / "none"))
    assert not finding.ok
    assert "does not exist" in finding.found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("claim.after=kill", "processes break on purpose at claim.after"),
        ("nowhere=kill", "not a failpoint"),
    ],
)
def test_failpoints_that_are_set_are_a_problem(
    findings: Findings, monkeypatch: pytest.MonkeyPatch, value: str, found: str
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, value)
    failpoints.armed.cache_clear()
    try:
        finding = findings()["failpoints"]
    finally:
        failpoints.armed.cache_clear()
    assert not finding["ok"]
    assert found in finding["found"]
    assert failpoints.VARIABLE in finding["mend"]
