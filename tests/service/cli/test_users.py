from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from feedback.errors import StoreUnavailableError
from feedback.store.users import Users
from feedback.types import Completion, Person, Vote
from models.types import Message, Sampling
from service.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from feedback.store import Store
    from tests.support.service.operator import Operator

    Left = Callable[[], int]


@pytest.fixture
def ann(operator: Operator) -> Left:
    """Record a voted reply of `ann`; return a function that tells how many are left."""
    person = Person("open", "ann")
    reply = Completion(
        id="c1",
        person=person,
        conversation="c",
        version="base",
        messages=(Message("user", "Hi"),),
        text="Hello",
        prompt_ids=(1,),
        response_ids=(2,),
        behaviour_logprobs=(-0.1,),
        sampling=Sampling(),
        finish_reason="stop",
        created_at=1000.0,
    )

    async def record(store: Store) -> None:
        await store.completions.record(reply)
        await store.votes.put("c1", person, Vote(thumb="up"), 1.0, now=2000.0)

    operator.in_store(record)

    async def left(store: Store) -> int:
        return sum(each is not None for each in await store.completions.get_many(["c1"]))

    return lambda: int(operator.in_store(left))


def test_a_dry_run_says_what_would_go(operator: Operator, ann: Left) -> None:
    printed = operator.run("users", "delete", "ann", "--dry-run").stdout
    assert printed == "Would delete 1 replies and 1 votes of 'ann' under open.\n"
    found = operator.ask("users", "delete", "ann", "--dry-run")
    assert (found["completions"], found["dry_run"]) == (1, True)
    assert ann() == 1


def test_a_user_is_deleted_and_the_consequences_are_told(operator: Operator, ann: Left) -> None:
    printed = operator.run("users", "delete", "ann", "--yes").stdout
    assert printed.startswith("Deleted 1 replies and 1 votes of 'ann' under open.\n")
    assert "append-only file" in printed
    assert ann() == 0
    event = operator.in_store(lambda store: store.rollout.events(1))[0]
    assert event.who.endswith("(command line)")
    assert "Nothing is recorded" in operator.run("users", "delete", "ann", "--yes", code=1).stderr


def test_where_nobody_can_be_asked_nothing_is_deleted(operator: Operator, ann: Left) -> None:
    assert "--yes" in operator.run("users", "delete", "ann", code=1).stderr
    assert ann() == 1


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("n", 1, 1)])
def test_on_a_terminal_the_operator_is_asked(
    operator: Operator,
    ann: Left,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    left: int,
) -> None:
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("service.cli.asking.sys", SimpleNamespace(stdin=terminal))
    result = CliRunner().invoke(app, ["users", "delete", "ann"], input=f"{answer}\n")
    assert "Delete 1 replies and 1 votes of 'ann' under open, for good?" in result.stderr
    assert result.exit_code == code
    assert ann() == left


def test_with_keys_the_owner_must_be_named(operator: Operator, ann: Left) -> None:
    operator.run("keys", "create", "shop")
    error = operator.run("users", "delete", "ann", "--yes", code=1).stderr
    assert "found under: open" in error
    deleted = operator.ask("users", "delete", "ann", "--owner", "open", "--yes")
    assert (deleted["owner"], deleted["votes"], deleted["dry_run"]) == ("open", 1, False)
    assert ann() == 0


def test_when_redis_goes_away_midway_the_operator_is_told_how_to_go_on(
    operator: Operator, ann: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("Redis is away.")

    monkeypatch.setattr(Users, "delete", away)
    error = operator.run("users", "delete", "ann", "--yes", code=1).stderr
    assert error == (
        "thumbloop: Redis is away. What is deleted stays deleted; run the same command again to "
        "continue.\n"
    )
