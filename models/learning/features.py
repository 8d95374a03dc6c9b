"""Features of replies, computed by the frozen base and from their text, for the reward model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from models.learning.reward_model import ReplyFeatures
from models.learning.surface import surface_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.policy.policy import Policy
    from models.types import Sample

DEPTH = 0.4
"""The layer whose states say most about what people like, as a share of all layers."""
WORD_COLUMNS = 4096
"""How many columns the tokens share: few replies have two of one column."""


def reply_features(samples: Sequence[Sample], policy: Policy) -> ReplyFeatures:
    """Return the features of ``N`` replies in fp64, no matter which version wrote them.

    Args:
        samples: Only their prompts and replies are read.
        policy: Its base computes the features.
    """
    depth = max(1, round(DEPTH * policy.base.model.config.num_hidden_layers))
    means_of = partial(policy.reference_means, depth=depth)
    states = [torch.empty(0)] * len(samples)
    for micro, means in policy.passes(means_of, samples):
        for row, mean in zip(micro.rows, means.cpu().double(), strict=True):
            states[row] = mean
    return ReplyFeatures(
        words=torch.stack([_token_counts(sample) for sample in samples]),
        content=torch.stack(states),
        form=torch.tensor(
            [surface_counts(sample, policy.base.tokenizer) for sample in samples],
            dtype=torch.float64,
        ),
    )


def _token_counts(sample: Sample) -> torch.Tensor:
    """Return the logarithm of one plus the count of each token of a reply, ``[W]`` fp64.

    Tokens share columns by their remainder: the hashing trick (Weinberger et al., 2009).
    """
    columns = torch.tensor(sample.response_ids) % WORD_COLUMNS
    return torch.bincount(columns, minlength=WORD_COLUMNS).double().log1p()
