"""Settings: few, and each is read."""

from __future__ import annotations

import ast

from feedback.settings import FeedbackSettings
from models.settings import LearnerSettings
from service.settings import ServiceSettings
from tests.support.product import modules
from workers.settings import WorkerSettings

MOST_SETTINGS = 80
CLASSES = (ServiceSettings, WorkerSettings, LearnerSettings, FeedbackSettings)


def test_there_are_few_settings_and_each_is_read() -> None:
    names = {name for settings in CLASSES for name in settings.model_fields}
    read = {
        node.attr
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
    }
    assert names - read == set()
    assert len(names) <= MOST_SETTINGS
