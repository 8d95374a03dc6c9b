from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.cli.environment import check_environment, known_names
from service.cli.errors import CommandError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service.operator import Operator


def test_the_settings_of_all_folders_are_known() -> None:
    wanted = {"HOST", "PORT", "DATA_DIR", "REDIS_URL", "BASE_MODEL", "MIN_VOTES", "LEARNING_RATE"}
    assert {f"THUMBLOOP_{name}" for name in wanted} <= known_names()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("THUMBLOOP_PROT", "Did you mean THUMBLOOP_PORT?"),
        ("thumbloop_min_vote", "Did you mean THUMBLOOP_MIN_VOTES?"),
        (
            "THUMBLOOP_GATE_MAX_KL",
            "The settings are: THUMBLOOP_GATE_ADVISORY, THUMBLOOP_GATE_BOUNDS",
        ),
        ("THUMBLOOP_MINIBATCH", "minibatch is a key of a recipe: write it in a TOML file, and set"),
        ("THUMBLOOP_QQQQQQ", "The settings are: THUMBLOOP_ADAPTER_STORE, THUMBLOOP_AUDIT_EVENTS"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_one(name: str, hint: str) -> None:
    with pytest.raises(CommandError, match=name) as caught:
        check_environment({name: "1"})
    assert hint in str(caught.value)


def test_other_peoples_variables_are_let_be() -> None:
    check_environment({"PATH": "/bin", "THUMB": "up"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("THUMBLOOP_PORT", "eighty"),
        ("THUMBLOOP_MIN_VOTES", "0"),
        ("THUMBLOOP_LEARNING_RATE", "-1"),
        ("THUMBLOOP_DTYPE", "int8"),
    ],
)
def test_a_value_that_does_not_fit_stops_every_command(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    result = operator.run("keys", "list", code=1)
    assert f"{name} cannot be {value!r}" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("of", "value", "said"),
    [
        (
            "GATE",
            "prase=3",
            "cannot be 'prase=3': no bound is called 'prase'; perhaps 'praise' is meant.",
        ),
        ("GATE", "length=-2", "length cannot be '-2': Input should be greater than 0."),
        ("JUDGE", "errors", "cannot be 'errors': write each bound as name=number, not 'errors'."),
    ],
)
def test_a_bound_that_cannot_be_meant_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, of: str, value: str, said: str
) -> None:
    name = f"THUMBLOOP_{of}_BOUNDS"
    monkeypatch.setenv(name, value)
    with pytest.raises(CommandError) as error:
        check_environment({name: value})
    assert str(error.value) == f"{name} {said}"


def test_settings_that_do_not_go_together_are_told_without_their_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THUMBLOOP_VOTE_TTL", "5")
    monkeypatch.setenv("THUMBLOOP_REDIS_URL", "redis://:secret@host")
    with pytest.raises(CommandError, match="vote_ttl is shorter than completion_ttl") as error:
        check_environment()
    assert "secret" not in str(error.value)


def test_a_recipe_that_cannot_be_read_stops_every_command_with_one_line(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("minibatches = 4")
    monkeypatch.setenv("THUMBLOOP_RECIPE", str(file))
    result = operator.run("keys", "list", code=1)
    assert "THUMBLOOP_RECIPE" in result.stderr
    assert result.stderr.endswith("has the key 'minibatches': did you mean minibatch?\n")
    assert len(result.stderr.strip().splitlines()) == 1
