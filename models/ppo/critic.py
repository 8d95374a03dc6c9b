"""The critic: a learned estimate of the return of each token, as its baseline (GAE)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.ppo.masked import mean_reply_sum

if TYPE_CHECKING:
    from collections.abc import Mapping


class ValueHead:
    """A linear map from the hidden state of a position to its value, initialised with zeros.

    No gradient flows into the hidden states: with a few hundred votes, the critic's error would
    change the policy more than the votes. With zeros, the first update has the same advantages as
    without a critic.
    """

    def __init__(self, width: int, *, device: str = "cpu") -> None:
        self.parameters: Mapping[str, torch.nn.Parameter] = {
            "value.weight": torch.nn.Parameter(torch.zeros(width, device=device)),
            "value.bias": torch.nn.Parameter(torch.zeros((), device=device)),
        }

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load the parameters by name; those that are missing become zeros."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors.get(name, torch.zeros_like(parameter)))

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the values ``[...]`` of hidden states ``[..., width]``."""
        weight, bias = self.parameters["value.weight"], self.parameters["value.bias"]
        return hidden.detach().to(weight.dtype) @ weight + bias


def gae(
    rewards_BT: torch.Tensor,
    values_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    gamma: float,
    lam: float,
) -> torch.Tensor:
    """Return generalised advantage estimates, ``[B, T]``; 0 where masked out.

    ``A_t = δ_t + γλ A_{t+1}`` with ``δ_t = r_t + γ V_{t+1} - V_t`` (arXiv 1506.02438 eq. 16, in
    its recursive form). The value after a reply's last kept token is 0. Masked tokens within a
    reply are skipped. The critic's target is A + V.

    Args:
        rewards_BT: The rewards from ``token_rewards``; no gradient flows into them.
        values_BT: The critic's values at the start of the update; no gradient flows into them.
        mask_BT: True where a token counts.
        gamma: The discount for each token of distance, in [0, 1].
        lam: 1 sums all later rewards; 0 uses the critic from the next token on.
    """
    rewards_BT, values_BT = rewards_BT.detach(), values_BT.detach()
    advantages_BT = torch.zeros_like(values_BT)
    next_value_B = next_advantage_B = torch.zeros_like(values_BT[:, 0])
    for t in reversed(range(values_BT.shape[1])):
        kept_B = mask_BT[:, t]
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        here_B = delta_B + gamma * lam * next_advantage_B
        advantages_BT[:, t] = torch.where(kept_B, here_B, 0.0)
        next_value_B = torch.where(kept_B, values_BT[:, t], next_value_B)
        next_advantage_B = torch.where(kept_B, here_B, next_advantage_B)
    return advantages_BT


def critic_loss(
    values_BT: torch.Tensor,
    old_BT: torch.Tensor,
    returns_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    clip: float,
    length_constant: float | torch.Tensor,
) -> torch.Tensor:
    """Return ½ max((V - G)², (clip(V, V_old ± clip) - G)²), a scalar by ``mean_reply_sum``.

    The value term of arXiv 1707.06347 eq. 9, with the clip of OpenAI's baselines and of TRL: the
    loss does not reward a value for moving further than ``clip`` in one update.

    Args:
        values_BT: The values of the critic being learned, through which gradients flow.
        old_BT: The critic's values at the start of the update.
        returns_BT: The targets G: ``gae`` plus ``old_BT``.
        mask_BT: True where a token counts.
        clip: The range of a value around its old value, in units of reward.
        length_constant: See ``mean_reply_sum``.
    """
    # Masked values become 0 first: NaN there would reach the gradient through a later mask.
    values_BT = values_BT.masked_fill(~mask_BT, 0.0)
    old_BT = old_BT.masked_fill(~mask_BT, 0.0)
    returns_BT = returns_BT.masked_fill(~mask_BT, 0.0)
    held_BT = values_BT.maximum(old_BT - clip).minimum(old_BT + clip)
    worse_BT = ((values_BT - returns_BT) ** 2).maximum((held_BT - returns_BT) ** 2)
    return mean_reply_sum(0.5 * worse_BT, mask_BT, length_constant)
