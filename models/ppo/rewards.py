"""What a reply is worth before any baseline: the vote, and the KL to the base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    ArticleForm = Literal["added", "weighted"]

SCORE_SHARE, KL_SHARE = 0.8, 0.2
"""The weights of the vote and of the KL term in the article's weighted mean."""


def token_rewards(
    scores_B: torch.Tensor, kl_BT: torch.Tensor, mask_BT: torch.Tensor, *, beta: float
) -> torch.Tensor:
    """Return -β KL at each token, plus the score at the last kept token, ``[B, T]``.

    Ziegler et al., arXiv 1909.08593 eq. 2. Masked tokens have reward 0, and so does a reply without
    kept tokens.
    """
    return kl_rewards(kl_BT, mask_BT, beta=beta) + at_last_token(scores_B, mask_BT)


def kl_rewards(kl_BT: torch.Tensor, mask_BT: torch.Tensor, *, beta: float) -> torch.Tensor:
    """Return -β KL at each token without gradient, ``[B, T]``; 0 where masked out.

    Args:
        kl_BT: The KL of the start policy to the base: ``kl.k1`` of the sampled tokens, which is
            unbiased in a reward (arXiv 2512.21852, arXiv 2510.01555), or the exact ``kl.full``.
        mask_BT: True where a token counts.
        beta: The cost of one nat, in units of reward.
    """
    return (-beta * kl_BT).detach().masked_fill(~mask_BT, 0.0)


def at_last_token(scores_B: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Return each reply's score at its last kept token, ``[B]`` to ``[B, T]``; 0 elsewhere."""
    kept_from_here = mask_BT.flip(-1).cumsum(-1).flip(-1)
    last_BT = mask_BT & (kept_from_here == 1)
    return scores_B[:, None] * last_BT.to(scores_B.dtype)


def article_returns(
    rewards_B: torch.Tensor,
    kl_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    form: ArticleForm,
    beta: float = 1.0,
) -> torch.Tensor:
    """Return R of each token as in J. Lages' article, ``[B, T]``; 0 where masked out.

    In "Reinforcement Learning from Human Feedback" (Towards AI), R is the reward plus a KL term, or
    a weighted mean of both. Every token has the reward of the whole reply and a KL of its own. The
    KL term is negative, so that drift costs.

    Args:
        rewards_B: The votes.
        kl_BT: The KL to the frozen base at each token, ``kl.k1`` or ``kl.full``; no gradient flows
            into it.
        mask_BT: True where a token counts.
        form: ``added`` is reward - β KL; ``weighted`` is 0.8 reward - 0.2 KL, without β.
        beta: The weight of the KL in the form ``added``; the article has 1.
    """
    kl_BT = kl_BT.detach()
    if form == "weighted":
        returns_BT = SCORE_SHARE * rewards_B[:, None] - KL_SHARE * kl_BT
    else:
        returns_BT = rewards_B[:, None] - beta * kl_BT
    return returns_BT.masked_fill(~mask_BT, 0.0)
