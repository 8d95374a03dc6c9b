"""What votes of this and of earlier updates say together, and whether that is beyond noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from models.learning.features import reply_features
from models.learning.reward_model import fit_reward_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.learning.reward_model import RewardModel
    from models.policy.policy import Policy
    from models.types import Sample

LEAST_VOTES = 12
"""With fewer votes no model is fitted, because they say too little."""
MOST_CHANCE = 0.2
"""How often votes that say nothing may pass for votes that do."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A reward model of the votes, and what it expects of the replies that they are on.

    Attributes:
        votes: How many votes there are.
        model: The model; None if the votes are too few or all alike.
        baselines: For each vote, what a model that has not seen it expects. Without a model there
            are none.
    """

    votes: int
    model: RewardModel | None = None
    baselines: Sequence[float] = ()

    @property
    def shortcoming(self) -> str | None:
        """Why the votes cannot be told from noise, as a sentence; None if they can.

        A model of the replies must make the votes likelier than it makes most votes that are dealt
        out to the same replies at random: a permutation test.
        """
        if self.votes < LEAST_VOTES:
            return f"{self.votes} votes are too few: at least {LEAST_VOTES} can tell a difference."
        if self.model is None:
            return f"All of the {self.votes} votes are alike: they tell no reply from another."
        if self.model.chance > MOST_CHANCE:
            return (
                f"The {self.votes} votes cannot be told from chance: "
                f"{self.model.chance:.0%} of votes dealt out at random fit the replies as well."
            )
        return None

    def figures(self) -> dict[str, Any]:
        """Return figures for the report, JSON-able."""
        of_model = {
            name: getattr(self.model, name, None)
            for name in ("bits", "chance", "correlation", "explained")
        }
        return {"votes": self.votes, **of_model, "shortcoming": self.shortcoming}


def weigh(votes: Sequence[Sample], policy: Policy, *, most: int) -> Evidence:
    """Fit a reward model to the newest votes.

    Args:
        votes: The votes, oldest first.
        policy: Its base computes the features of the replies.
        most: To how many votes the model is fitted at most. It has not seen the others, so that it
            can expect their replies' rewards as those of any reply.
    """
    newest = votes[-most:]
    rewards = torch.tensor([vote.reward for vote in newest])
    if len(newest) < LEAST_VOTES or len(set(rewards.tolist())) == 1:
        return Evidence(len(newest))
    features = reply_features(votes, policy)
    older = len(votes) - len(newest)
    model = fit_reward_model(features[older:], rewards, [vote.user for vote in newest])
    unseen = model.expect(features[:older]) if older else model.left_out[:0]
    return Evidence(len(newest), model, [*unseen.tolist(), *model.left_out.tolist()])
