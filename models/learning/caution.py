"""How far an update goes where the ones before it were rejected or rolled back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.recipe import Recipe

MOST_SETBACKS = 6
"""Setbacks after which an update goes no more cautiously: a 64th of the rate."""


def rate_share(setbacks: int) -> float:
    """Return the share of its rate at which an update learns after so many setbacks."""
    return 0.5 ** min(setbacks, MOST_SETBACKS)


def cautious(recipe: Recipe, setbacks: int) -> Recipe:
    """Return the recipe of an update whose parent's last updates came to nothing.

    Each of them halves the learning rate and doubles the KL coefficient: the votes push half as
    far, and the base pulls as it did. So a policy that stands at one of the gate's bounds comes
    back from it, where the same update again would make the same version (of the base, one with
    other first weights). To halve a step until its result holds is TRPO's backtracking line search
    (arXiv 1502.05477, appendix C); that the base's pull stays is ours.

    Adam's momentum has the larger coefficient in it afterwards: what carries it on at the whole
    rate must take the same share of it, or the base pulls for updates to come.
    """
    share = rate_share(setbacks)
    return replace(
        recipe,
        learning_rate=recipe.learning_rate * share,
        kl_coefficient=recipe.kl_coefficient / share,
    )
