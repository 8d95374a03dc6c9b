from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from models import failpoints
from models.adapters import WEIGHTS_FILE
from service.cli.checks import check_folder, check_python
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def findings(operator: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the doctor's findings by check; no API runs, and no base is imported."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("THUMBLOOP_PORT", str(server.getsockname()[1]))

    def examine() -> dict[str, dict[str, Any]]:
        return {f["check"]: f for f in operator.ask("doctor", code=1)}

    return examine


def test_each_problem_comes_with_how_to_mend_it(findings: Any) -> None:
    found = findings()
    assert found["redis"]["ok"]
    assert "appendfsync always" in found["redis"]["found"]
    problems = {check: f["mend"] for check, f in found.items() if not f["ok"]}
    assert problems.keys() == {"base model", "workers", "api"}
    assert "thumbloop models import" in problems["base model"]
    assert "thumbloop up" in problems["workers"]
    assert "thumbloop up" in problems["api"]


def test_workers_that_look_are_well(findings: Any, operator: Any) -> None:
    operator.in_store(lambda store: store.learning.looked(time.time()))
    assert findings()["workers"]["ok"]
    operator.in_store(lambda store: store.learning.looked(time.time() - 60))
    assert findings()["workers"]["found"].startswith("silent for 6")


def test_a_redis_that_loses_votes_is_a_problem(findings: Any, operator: Any) -> None:
    def configure(value: str) -> None:
        operator.in_store(
            lambda store: store._client.command("CONFIG SET", "maxmemory-policy", value)
        )

    configure("allkeys-lru")
    try:
        assert "noeviction" in findings()["redis"]["mend"]
    finally:
        configure("noeviction")


def test_a_damaged_live_version_is_a_problem(findings: Any, operator: Any) -> None:
    version = operator.add_version(1)
    operator.run("versions", "activate", version)
    assert findings()["live version"]["ok"]
    (operator.data_dir / "adapters" / version / WEIGHTS_FILE).unlink()
    found = findings()["live version"]
    assert not found["ok"]
    assert "rollback" in found["mend"]


def test_no_redis_is_a_problem_and_not_the_end(
    findings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBLOOP_REDIS_URL", "redis://127.0.0.1:1")
    found = findings()
    assert not found["redis"]["ok"]
    assert "api" in found


def test_people_get_lines(operator: Any, findings: Any) -> None:
    findings()
    printed = operator.run("doctor", code=1).stdout
    assert "ok     python" in printed
    assert "wrong  api" in printed


def test_an_old_python_is_named() -> None:
    finding = check_python((3, 10, 4))
    assert (finding.ok, finding.found) == (False, "3.10.4")


def test_a_data_folder_that_is_not_there(tmp_path: Path) -> None:
    finding = check_folder(ServiceSettings(data_dir=tmp_path / "none"))
    assert not finding.ok
    assert "does not exist" in finding.found


@pytest.mark.parametrize(
    ("value", "found"),
    [("claim.after=kill", "processes break at claim.after"), ("nowhere=kill", "no failpoint")],
)
def test_failpoints_that_are_set_are_a_problem(
    findings: Any, monkeypatch: pytest.MonkeyPatch, value: str, found: str
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
