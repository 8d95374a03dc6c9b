"""Settings of the workers: those of the learner and those of the record."""

from __future__ import annotations

from feedback.settings import FeedbackSettings
from models.settings import LearnerSettings


class WorkerSettings(LearnerSettings, FeedbackSettings):
    """Everything that one update needs; the names are those of the folders below."""
