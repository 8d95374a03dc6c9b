"""Features of replies, computed by the frozen base, for the reward model."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch

from models.learning.reward_model import ReplyFeatures

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
    content = [torch.empty(0)] * len(samples)
    for micro, means in policy.passes(means_of, samples):
        for row, mean in zip(micro.rows, means.cpu().double(), strict=True):
            content[row] = mean
    lengths = [math.log(len(sample.response_ids)) for sample in samples]
    ended = [float(sample.ended) for sample in samples]
    return ReplyFeatures(
        torch.stack(content), torch.tensor([lengths, ended], dtype=torch.float64).T
    )
