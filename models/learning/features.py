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
        words=_token_means(samples, policy),
        content=torch.stack(states),
        form=torch.tensor(
            [surface_counts(sample, policy.base.tokenizer) for sample in samples],
            dtype=torch.float64,
        ),
    )


def _token_means(samples: Sequence[Sample], policy: Policy) -> torch.Tensor:
    """Return the mean of the base's embeddings of each reply's tokens, ``[N, H]`` fp64."""
    table = policy.base.model.get_input_embeddings().weight.detach()
    return torch.stack(
        [
            table[torch.tensor(sample.response_ids, device=table.device)].double().mean(0).cpu()
            for sample in samples
        ]
    )
