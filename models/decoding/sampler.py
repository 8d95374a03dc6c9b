"""Samples tokens from logits, with log-probs under the distribution that was sampled from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from models.types import Token, TopLogprob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.decoding.adjusting import Adjuster

_BLOCK = 256
"""The entries of a block of the vocabulary; sampling picks a block, then a token within it."""

_CANDIDATES = (64, 512, 4096)
"""The numbers of top tokens that truncated sampling tries before the whole vocabulary.

A chat model's nucleus of 0.95 seldom exceeds 512 tokens, and most often has fewer than 64."""

_BELOW_ONE = math.nextafter(1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Draw:
    """The sampling parameters of one token.

    Attributes:
        uniform: Its random number in [0, 1).
        adjuster: Changes its logits; None if nothing does.
    """

    temperature: float
    top_p: float
    top_logprobs: int
    uniform: float
    top_k: int = 0
    min_p: float = 0.0
    adjuster: Adjuster | None = None

    @property
    def truncates(self) -> bool:
        """Whether top-k, top-p or min-p excludes some tokens."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)

    @property
    def is_of_policy(self) -> bool:
        """Whether the token is drawn from the policy's own distribution at the temperature."""
        return not self.truncates and self.adjuster is None


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Token]:
    """Draw one token for each row.

    Penalties and bias apply first, then the temperature, ``min_p`` and ``top_k``, and last
    ``top_p`` of the remaining mass. At temperature 0 the token is the most probable one, with its
    log-prob at temperature 1.

    Args:
        logits: ``[rows, V]``, of any float type.
        draws: The sampling parameters, one entry for each row.

    Returns:
        The tokens, one for each row.
    """
    scaled = _scaled(_adjusted(logits, draws), draws)
    probs = scaled.softmax(-1)
    ids = _draw(probs, draws)
    greedy = [row for row, draw in enumerate(draws) if draw.temperature == 0]
    if greedy:
        ids[greedy] = _argmax(_select_rows(scaled, greedy))
    chosen = probs.gather(1, ids[:, None])[:, 0].log()
    tokens = [Token(i, lp) for i, lp in zip(ids.tolist(), chosen.tolist(), strict=True)]
    _add_alternatives(tokens, scaled, draws)
    for row, token in _draw_truncated(scaled, probs, draws):
        tokens[row] = token
    _add_policy_logprobs(tokens, logits, draws)
    return tokens


def _adjusted(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Return the logits with penalties and bias; the given ones if no row has any."""
    adjusters = [(row, draw.adjuster) for row, draw in enumerate(draws) if draw.adjuster]
    if not adjusters:
        return logits
    out = logits.float().clone()
    for row, adjuster in adjusters:
        adjuster.apply(out[row])
    return out


def _add_policy_logprobs(tokens: list[Token], logits: torch.Tensor, draws: Sequence[Draw]) -> None:
    """Add the log-prob under the policy alone to tokens that were drawn from something else."""
    rows = [row for row, draw in enumerate(draws) if not draw.is_of_policy]
    if not rows:
        return
    plain = _scaled(_select_rows(logits, rows), [draws[row] for row in rows]).log_softmax(-1)
    ids = torch.tensor([tokens[row].id for row in rows], device=plain.device)
    for row, logprob in zip(rows, plain.gather(1, ids[:, None])[:, 0].tolist(), strict=True):
        adjuster = draws[row].adjuster
        forced = adjuster is not None and adjuster.forced
        tokens[row] = replace(tokens[row], policy_logprob=logprob, forced=forced)


def _scaled(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Return the logits divided by each row's temperature, ``[rows, V]`` in fp32."""
    temperatures = [draw.temperature or 1.0 for draw in draws]
    if all(temperature == 1 for temperature in temperatures):
        return logits.float()
    return logits / torch.tensor(temperatures, device=logits.device)[:, None]


def _select_rows(values: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Return the given rows of ``values``, without a copy if all rows are given."""
    return values if len(rows) == len(values) else values[rows]


def _draw(probs: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Draw by inverse-transform sampling: first a block of the vocabulary, then a token in it.

    Args:
        probs: ``[rows, V]``; a token with probability 0 is never drawn.
        draws: The sampling parameters, of which only the random numbers are read.

    Returns:
        The token ids, ``[rows]``.
    """
    blocks = _in_blocks(probs, 0.0)
    block, uniforms = _choose(blocks.sum(-1), _uniforms(draws, probs.device))
    inside, _ = _choose(_take_block(blocks, block), uniforms)
    # Only a row of NaN can select an entry of the padding.
    return (block * _BLOCK + inside).clamp(max=probs.shape[1] - 1)


def _uniforms(draws: Sequence[Draw], device: torch.device) -> torch.Tensor:
    return torch.tensor([draw.uniform for draw in draws], device=device, dtype=torch.float64)


def _argmax(scaled: torch.Tensor) -> torch.Tensor:
    """Return the first maximum of each row, much faster than torch's own argmax."""
    blocks = _in_blocks(scaled, -torch.inf)
    block = blocks.amax(-1).argmax(-1)
    return block * _BLOCK + _take_block(blocks, block).argmax(-1)


def _in_blocks(values: torch.Tensor, padding: float) -> torch.Tensor:
    missing = -values.shape[1] % _BLOCK
    if missing:
        values = torch.nn.functional.pad(values, (0, missing), value=padding)
    return values.reshape(values.shape[0], -1, _BLOCK)


def _take_block(blocks: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    return blocks[torch.arange(len(blocks), device=blocks.device), block]


def _choose(masses: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose one entry of each row with probability proportional to its mass.

    An entry of mass 0 is never chosen.

    Args:
        masses: ``[rows, n]``, not negative.
        uniforms: ``[rows]`` in [0, 1), float64.

    Returns:
        The indices ``[rows]``, and for each row a fresh uniform number in [0, 1): the position of
        the old number within the chosen entry.
    """
    cumulative = masses.double().cumsum(-1)
    target = uniforms * cumulative[:, -1]
    index = torch.searchsorted(cumulative, target[:, None], right=True).clamp(
        max=masses.shape[1] - 1
    )
    mass = masses.gather(1, index).double()[:, 0]
    before = cumulative.gather(1, index)[:, 0] - mass
    return index[:, 0], ((target - before) / mass).clamp(0.0, _BELOW_ONE)


def _add_alternatives(tokens: list[Token], scaled: torch.Tensor, draws: Sequence[Draw]) -> None:
    """Add the top log-probs to the tokens of untruncated rows that ask for them."""
    for row, draw in enumerate(draws):
        if draw.top_logprobs and not draw.truncates:
            token = tokens[row]
            values, ids = scaled[row].topk(min(draw.top_logprobs, scaled.shape[1]))
            logprobs = values - scaled[row, token.id] + token.logprob
            tokens[row] = Token(token.id, token.logprob, _alternatives(ids, logprobs))


def _draw_truncated(
    scaled: torch.Tensor, probs: torch.Tensor, draws: Sequence[Draw]
) -> Iterator[tuple[int, Token]]:
    """Yield the row numbers and tokens of the truncated rows.

    Each round examines more of the most probable tokens; a row is drawn in the first round that
    covers all tokens which its truncation keeps.
    """
    rows = [row for row, draw in enumerate(draws) if draw.truncates]
    vocabulary = scaled.shape[1]
    for candidates in (*_CANDIDATES, vocabulary):
        if not rows:
            return
        count = min(candidates, vocabulary)
        cut = [draws[row] for row in rows]
        best = _select_rows(scaled, rows).topk(count).indices
        masses = probs[torch.tensor(rows, device=probs.device)[:, None], best]
        masses = masses.double()
        kept = _kept(masses, cut)
        tokens = _draw_kept(best, kept, cut)
        decided = _is_decided(masses, kept, cut) if count < vocabulary else [True] * len(rows)
        yield from ((row, t) for row, t, sure in zip(rows, tokens, decided, strict=True) if sure)
        rows = [row for row, sure in zip(rows, decided, strict=True) if not sure]


def _kept(masses: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Apply min-p (arXiv 2407.01082) and top-k, then top-p (arXiv 1904.09751) to what remains.

    Args:
        masses: The probabilities of each row's top tokens, best first, ``[rows, K]`` float64.
        draws: The sampling parameters of each row.

    Returns:
        ``masses`` with 0 for the tokens that are excluded, ``[rows, K]``.
    """
    count, device = masses.shape[1], masses.device
    limits = torch.tensor([min(draw.top_k, count) or count for draw in draws], device=device)
    least = torch.tensor([draw.min_p for draw in draws], device=device, dtype=torch.float64)
    enough = masses >= least[:, None] * masses[:, :1]
    masses = masses * enough * (torch.arange(count, device=device) < limits[:, None])
    cumulative = masses.cumsum(-1)
    limited = torch.tensor([draw.top_k > 0 or draw.min_p > 0 for draw in draws], device=device)
    shares = torch.tensor([draw.top_p for draw in draws], device=device, dtype=torch.float64)
    wanted = shares * torch.where(limited, cumulative[:, -1], 1.0)
    return masses * (cumulative - masses < wanted[:, None])


def _is_decided(masses: torch.Tensor, kept: torch.Tensor, draws: Sequence[Draw]) -> list[bool]:
    """Return for each row whether the ``K`` examined tokens include every token that is kept.

    Where min-p or top-k leaves a part of the mass, top-p is a share of all of that part.
    """
    return [
        (0 < draw.top_k <= len(mass))
        or bool(mass[-1] < draw.min_p * mass[0])
        or (not draw.top_k and not draw.min_p and bool(keep[-1] == 0))
        for mass, keep, draw in zip(masses, kept, draws, strict=True)
    ]


def _draw_kept(best: torch.Tensor, kept: torch.Tensor, draws: Sequence[Draw]) -> list[Token]:
    """Draw one token of each row from the ids ``best`` with the masses ``kept``, ``[rows, K]``."""
    places, _ = _choose(kept, _uniforms(draws, kept.device))
    logprobs = (kept / kept.sum(-1, keepdim=True)).log()
    ids = best.gather(1, places[:, None])[:, 0].tolist()
    chosen = logprobs.gather(1, places[:, None])[:, 0].tolist()
    return [
        Token(i, lp, _alternatives(best[row, :most], logprobs[row, :most]))
        for row, (i, lp, most) in enumerate(
            zip(ids, chosen, (draw.top_logprobs for draw in draws), strict=True)
        )
    ]


def _alternatives(ids: torch.Tensor, logprobs: torch.Tensor) -> tuple[TopLogprob, ...]:
    if not len(ids):
        return ()
    pairs = zip(ids.tolist(), logprobs.tolist(), strict=True)
    return tuple(TopLogprob(token_id=i, logprob=lp) for i, lp in pairs if lp > -math.inf)
