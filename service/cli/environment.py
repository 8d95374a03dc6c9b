"""Refuses environment variables that no setting reads, and values that do not fit."""

from __future__ import annotations

import difflib
import os
from dataclasses import fields
from typing import TYPE_CHECKING

from pydantic import ValidationError

from feedback.settings import FeedbackSettings
from models import failpoints
from models.recipe import Recipe
from models.settings import LearnerSettings, ModelSettings
from service.cli.errors import CommandError
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "THUMBLOOP_"
_SETTINGS = (ServiceSettings, FeedbackSettings, LearnerSettings, ModelSettings)


def check_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Check every ``THUMBLOOP_*`` variable.

    Raises:
        CommandError: One is unknown or has a value of the wrong kind.
    """
    known = known_names()
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise CommandError(_unknown(name, known))
    for settings in (ServiceSettings, LearnerSettings):
        try:
            settings()
        except ValidationError as error:
            raise CommandError(_ill_typed(error)) from error


def known_names() -> frozenset[str]:
    """Return the environment variables that set something."""
    fields = {field for settings in _SETTINGS for field in settings.model_fields}
    return frozenset(PREFIX + field.upper() for field in fields) | {failpoints.VARIABLE}


def _unknown(name: str, known: frozenset[str]) -> str:
    word = name.upper().removeprefix(PREFIX)
    if word.lower() in {field.name for field in fields(Recipe)}:
        return (
            f"The environment variable {name} is not a setting of Thumbloop, but {word.lower()} is "
            f"a key of a recipe: write it in a TOML file, and set {PREFIX}RECIPE to its path."
        )
    closest = difflib.get_close_matches(word, [each.removeprefix(PREFIX) for each in known], n=1)
    if closest:
        hint = f"Did you mean {PREFIX}{closest[0]}?"
    else:
        alike = [each for each in known if each.startswith(f"{PREFIX}{word.partition('_')[0]}_")]
        hint = f"The settings are: {', '.join(sorted(alike or known))}."
    return f"The environment variable {name} is not a setting of Thumbloop. {hint}"


def _ill_typed(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:  # several settings that do not go together
        return f"The settings do not go together: {first['msg'].removeprefix('Value error, ')}"
    setting, *within = map(str, first["loc"])
    name = " ".join([PREFIX + setting.upper(), *within])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{name} cannot be {first['input']!r}: {reason}{'' if reason[-1:] in '.?' else '.'}"
