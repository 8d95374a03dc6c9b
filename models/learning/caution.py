"""How much more cautiously an update learns after others were rejected or rolled back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.recipe import Recipe

MOST_SETBACKS = 6
"""Setbacks that count, at most: the rate is never less than a 64th."""


def rate_share(setbacks: int) -> float:
    """Return by how much the learning rate is multiplied after so many setbacks."""
    return 0.5 ** min(setbacks, MOST_SETBACKS)


def cautious(recipe: Recipe, setbacks: int) -> Recipe:
    """Return the recipe of an update after the last updates of its parent failed.

    Each setback halves the learning rate and doubles the KL coefficient. The votes then push half
    as far, and the base pulls as before. A policy at one of the gate's bounds thereby moves away
    from the bound; the unchanged recipe would make the same version again. TRPO's backtracking line
    search halves a step in the same way (arXiv 1502.05477, appendix C); keeping the base's pull is
    our addition.

    Adam's momentum then contains the larger coefficient. Whoever saves the momentum must multiply
    it by ``rate_share``, or the base would pull more strongly in later updates.
    """
    share = rate_share(setbacks)
    return replace(
        recipe,
        learning_rate=recipe.learning_rate * share,
        kl_coefficient=recipe.kl_coefficient / share,
    )
