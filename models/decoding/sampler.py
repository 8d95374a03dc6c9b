"""From logits to tokens, with the log-probs of the distribution that was really sampled from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.types import Token, TopLogprob

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Draw:
    """How to draw one row's token: ``uniform`` in [0, 1) is the row's own random number."""

    temperature: float
    top_p: float
    top_logprobs: int
    uniform: float


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Token]:
    """Draw one token a row.

    At temperature 0 the token is the most probable one and log-probs are those at temperature 1.

    Args:
        logits: ``[rows, V]``, any float type.
        draws: One for each row.

    Returns:
        One token a row.
    """
    temperatures = [d.temperature or 1.0 for d in draws]
    scale = torch.tensor(temperatures, device=logits.device, dtype=torch.float32)
    logprobs = (logits.float() / scale[:, None]).log_softmax(-1)
    for row, draw in enumerate(draws):
        if draw.temperature > 0 and draw.top_p < 1:
            logprobs[row] = truncate(logprobs[row], draw.top_p)
    ids = _choose(logprobs, draws)
    chosen = logprobs.gather(1, ids[:, None])[:, 0].tolist()
    return [
        Token(id=i, logprob=lp, top=_alternatives(logprobs[row], draw.top_logprobs))
        for row, (i, lp, draw) in enumerate(zip(ids.tolist(), chosen, draws, strict=True))
    ]


def truncate(logprobs: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the smallest set of tokens whose mass reaches ``top_p``, renormalised.

    Args:
        logprobs: ``[V]``, normalised.
        top_p: In (0, 1).

    Returns:
        ``[V]``, -inf outside the set (nucleus sampling, arXiv 1904.09751).
    """
    ordered, index = logprobs.sort(descending=True)
    before = ordered.exp().cumsum(0) - ordered.exp()
    kept = index[before < top_p]
    out = torch.full_like(logprobs, -torch.inf)
    out[kept] = logprobs[kept] - logprobs[kept].logsumexp(0)
    return out


def _choose(logprobs: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Inverse-transform sampling, or the mode at temperature 0; returns ids ``[rows]``."""
    ids = logprobs.argmax(-1)
    drawn = [row for row, draw in enumerate(draws) if draw.temperature > 0]
    if drawn:
        mass = logprobs[drawn].exp().double().cumsum(-1)
        uniforms = [draws[row].uniform for row in drawn]
        target = torch.tensor(uniforms, device=mass.device, dtype=mass.dtype) * mass[:, -1]
        found = torch.searchsorted(mass, target[:, None], right=True)[:, 0]
        ids[drawn] = found.clamp(max=logprobs.shape[1] - 1)
    return ids


def _alternatives(logprobs: torch.Tensor, count: int) -> tuple[TopLogprob, ...]:
    if count == 0:
        return ()
    values, ids = logprobs.topk(count)
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return tuple(TopLogprob(token_id=i, logprob=v) for i, v in pairs if v > -torch.inf)
