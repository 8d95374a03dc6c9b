"""Settings whose recipe is changed in some fields."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from models.recipe import Recipe, find

if TYPE_CHECKING:
    from models.settings import LearnerSettings

_OF_THE_RECIPE = {field.name for field in fields(Recipe)}


def changed(settings: LearnerSettings, **changes: Any) -> LearnerSettings:
    """Return settings with other values; what a recipe has is changed in ``settings.recipe``.

    A ``recipe`` among the changes, by its name, is what the others are changes of.
    """
    of_recipe = {name: value for name, value in changes.items() if name in _OF_THE_RECIPE}
    rest = {name: value for name, value in changes.items() if name not in _OF_THE_RECIPE}
    recipe = find(changes["recipe"]) if "recipe" in changes else settings.recipe
    return settings.model_copy(update=rest | {"recipe": replace(recipe, **of_recipe)})
