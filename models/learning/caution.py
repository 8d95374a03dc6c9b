"""How far an update goes where the ones before it were rejected or rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.settings import LearnerSettings

MOST_SETBACKS = 6
"""Setbacks after which an update goes no more cautiously: a 64th of the rate."""


def rate_share(setbacks: int) -> float:
    """Return the share of its rate at which an update learns after so many setbacks."""
    return 0.5 ** min(setbacks, MOST_SETBACKS)


def cautious(settings: LearnerSettings, setbacks: int) -> LearnerSettings:
    """Return the settings for an update whose parent's last updates came to nothing.

    Each of them halves the learning rate and doubles the KL coefficient: the votes push half as
    far, and the base pulls as it did. So a policy that stands at one of the gate's bounds comes
    back from it, where the same update again would make the same version (of the base, one with
    other first weights). To halve a step until its result holds is TRPO's backtracking line search
    (arXiv 1502.05477, appendix C); that the base's pull stays is ours.

    Adam's momentum has the larger coefficient in it afterwards: what carries it on at the whole
    rate must take the same share of it, or the base pulls for updates to come.
    """
    share = rate_share(setbacks)
    return settings.model_copy(
        update={
            "learning_rate": settings.learning_rate * share,
            "kl_coefficient": settings.kl_coefficient / share,
        }
    )
