"""Settings: durations are given in seconds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from feedback.settings import FeedbackSettings
from models.recipe import ARTICLE, THUMBLOOP
from models.settings import LearnerSettings, ModelSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("0.5", 0.5), ("0", 0), ("PT2M", 120), ("P1D", 86400)],
)
def test_a_duration_is_a_number_of_seconds_or_iso_8601(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("THUMBLOOP_UPDATE_INTERVAL", text)
    assert FeedbackSettings().update_interval == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "1e300", ""])
def test_what_is_no_duration_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("THUMBLOOP_UPDATE_INTERVAL", text)
    with pytest.raises(ValidationError):
        FeedbackSettings()


@pytest.mark.parametrize(
    ("settings", "alone", "beside_a_learner"),
    [
        ({"engine_threads": 8}, 8, 4),
        ({"engine_threads": 1}, 1, 1),
        ({"engine_threads": 8, "engine_threads_while_learning": 6}, 8, 6),
        ({"engine_threads": 2, "engine_threads_while_learning": 6}, 2, 2),
    ],
)
def test_a_learner_gets_half_of_the_cores_or_what_the_settings_say(
    settings: dict[str, int], alone: int, beside_a_learner: int
) -> None:
    found = ModelSettings(**settings)
    assert found.step_threads() == alone
    assert found.step_threads(learning=True) == beside_a_learner


def test_a_recipe_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LearnerSettings().effective_recipe == THUMBLOOP
    monkeypatch.setenv("THUMBLOOP_RECIPE", "article")
    assert LearnerSettings().effective_recipe == ARTICLE


def test_a_recipe_is_chosen_by_the_path_of_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("minibatch = 16\n")
    monkeypatch.setenv("THUMBLOOP_RECIPE", str(file))
    assert LearnerSettings().effective_recipe == replace(THUMBLOOP, minibatch=16)


def test_what_is_set_beside_a_recipe_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBLOOP_RECIPE", "article")
    monkeypatch.setenv("THUMBLOOP_KL_COEFFICIENT", "0")
    monkeypatch.setenv("THUMBLOOP_MAX_STEP_KL", "0.5")
    monkeypatch.setenv("THUMBLOOP_PRACTICE_ROUNDS", "3")
    found = LearnerSettings(epochs=2)
    expected = replace(ARTICLE, kl_coefficient=0.0, max_step_kl=0.5, practice_rounds=3, epochs=2)
    assert found.effective_recipe == expected
    assert found.recipe == ARTICLE
    assert found.model_copy(update={"epochs": 3}).effective_recipe == replace(expected, epochs=3)


def test_the_clip_is_set_on_both_sides_where_the_recipe_has_both_alike() -> None:
    found = LearnerSettings(clip=0.1).effective_recipe
    assert (found.clip, found.clip_high) == (0.1, 0.1)
    wider = replace(THUMBLOOP, clip_high=2.0)
    found = LearnerSettings(recipe=wider, clip=0.1).effective_recipe
    assert (found.clip, found.clip_high) == (0.1, 2.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("epochs", 0),
        ("clip", 1.0),
        ("max_step_kl", 0.0),
        ("max_grad_norm", 0.0),
        ("kl_target", 0.0),
        ("kl_coefficient", -0.1),
        ("corrections", -1.0),
        ("practice_rounds", -1),
    ],
)
def test_what_no_recipe_may_have_is_refused_as_a_setting_too(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        LearnerSettings(**{name: value})


def test_a_recipe_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBLOOP_RECIPE", "artikel")
    with pytest.raises(ValidationError, match="artikel cannot be read"):
        LearnerSettings()
