"""Settings: durations are given in seconds."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from pydantic import ValidationError

from feedback.settings import FeedbackSettings
from models.settings import LearnerSettings, ModelSettings


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


def test_a_preset_changes_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBLOOP_PRESET", "article")
    found = LearnerSettings()
    assert (found.epochs, found.clip, found.clip_high, found.minibatch) == (4, 0.2, 0.2, 0)
    assert (found.advantage, found.stale_votes, found.kl_form) == ("none", "none", "weighted")
    assert found.max_step_kl == found.max_drift == math.inf
    assert (found.kl_coefficient, found.kl_power) == (1.0, 0.0)
    # what the article says nothing of stays as it is
    assert found.lora_rank == LearnerSettings.model_fields["lora_rank"].default


def test_what_is_set_beside_a_preset_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBLOOP_PRESET", "article")
    monkeypatch.setenv("THUMBLOOP_KL_FORM", "added")
    assert LearnerSettings().kl_form == "added"
    assert LearnerSettings(epochs=2).epochs == 2


def test_a_critic_needs_rewards() -> None:
    with pytest.raises(ValidationError, match="THUMBLOOP_KL_FORM"):
        LearnerSettings(preset="article", advantage="critic")
