"""What the frozen base makes of replies: by that the reward model knows them."""

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
"""Which of the base's layers, as a part of all, says most of what people like in a reply."""


def reply_features(samples: Sequence[Sample], policy: Policy) -> ReplyFeatures:
    """Return what is known of ``N`` replies, whoever wrote them, fp64.

    Args:
        samples: Prompts and replies; nothing else of them is read.
        policy: Whose base reads them.
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
