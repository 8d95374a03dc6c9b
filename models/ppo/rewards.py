"""What a reply is worth before any baseline: the vote, and the KL to the base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    ArticleForm = Literal["added", "weighted"]

SCORE_SHARE, KL_SHARE = 0.8, 0.2
"""The article's weighted mean of the vote and the KL term."""


def token_rewards(
    scores_B: torch.Tensor, kl_BT: torch.Tensor, mask_BT: torch.Tensor, *, beta: float
) -> torch.Tensor:
    """Return -β KL at each token, and the score at the last kept one too, ``[B, T]``.

    Ziegler et al., arXiv 1909.08593 eq. 2. 0 where masked out; a reply that keeps nothing has no
    reward.
    """
    return kl_rewards(kl_BT, mask_BT, beta=beta) + at_last_token(scores_B, mask_BT)


def kl_rewards(kl_BT: torch.Tensor, mask_BT: torch.Tensor, *, beta: float) -> torch.Tensor:
    """Return -β KL at each token as a constant, ``[B, T]``; 0 where masked out.

    Args:
        kl_BT: KL of the start policy to the base: of the sampled tokens, as ``kl.k1``, which is
            the unbiased form here (arXiv 2512.21852, arXiv 2510.01555), or ``kl.full``.
        mask_BT: True where a token counts.
        beta: What a nat costs.
    """
    return (-beta * kl_BT).detach().masked_fill(~mask_BT, 0.0)


def at_last_token(scores_B: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Put each reply's score at its last kept token, ``[B]`` to ``[B, T]``; 0 elsewhere."""
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
    """Return R of each token as J. Lages' article has it, ``[B, T]``; 0 where masked out.

    "Reinforcement Learning from Human Feedback" (Towards AI): R is the reward plus a KL term, or a
    weighted mean of them. The vote counts at each token, and the KL is the token's own; as a term
    it is negative, so that drift costs.

    Args:
        rewards_B: The votes.
        kl_BT: KL to the frozen base at each token, of the sampled token (``kl.k1``) or of the
            whole distribution (``kl.full``). It is taken as a constant.
        mask_BT: True where a token counts.
        form: ``added``: reward - β KL. ``weighted``: 0.8 reward - 0.2 KL, without β.
        beta: Weight of the KL in the first form; the article has 1.
    """
    kl_BT = kl_BT.detach()
    if form == "weighted":
        returns_BT = SCORE_SHARE * rewards_B[:, None] - KL_SHARE * kl_BT
    else:
        returns_BT = rewards_B[:, None] - beta * kl_BT
    return returns_BT.masked_fill(~mask_BT, 0.0)
