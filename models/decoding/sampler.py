"""From logits to tokens, with the log-probs of the distribution that was really sampled from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.types import Token, TopLogprob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BLOCK = 256
"""A vocabulary is searched block by block: first for the block, then within it."""

_ENOUGH = (64, 512, 4096)
"""How many of the most probable tokens are tried before the whole vocabulary is sorted.

A chat model's nucleus of 0.95 is seldom over 512 tokens, and most often under 64."""

_BELOW_ONE = math.nextafter(1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Draw:
    """How to draw one row's token: ``uniform`` in [0, 1) is the row's own random number."""

    temperature: float
    top_p: float
    top_logprobs: int
    uniform: float
    top_k: int = 0

    @property
    def truncates(self) -> bool:
        """Whether some tokens may not be drawn."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1)


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Token]:
    """Draw one token a row: temperature first, then ``top_k``, then ``top_p`` of what is left.

    At temperature 0 the token is the most probable one and log-probs are those at temperature 1.

    Args:
        logits: ``[rows, V]``, any float type.
        draws: One for each row.

    Returns:
        One token a row.
    """
    scaled = _scaled(logits, draws)
    probs = scaled.softmax(-1)
    ids = _draw(probs, draws)
    greedy = [row for row, draw in enumerate(draws) if draw.temperature == 0]
    if greedy:
        ids[greedy] = _mode(_of(scaled, greedy))
    chosen = probs.gather(1, ids[:, None])[:, 0].log()
    tokens = [Token(i, lp) for i, lp in zip(ids.tolist(), chosen.tolist(), strict=True)]
    _add_alternatives(tokens, scaled, draws)
    for row, token in _draw_truncated(scaled, probs, draws):
        tokens[row] = token
    return tokens


def _scaled(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Return the logits at each row's temperature, ``[rows, V]`` in fp32."""
    temperatures = [draw.temperature or 1.0 for draw in draws]
    if all(temperature == 1 for temperature in temperatures):
        return logits.float()
    return logits / torch.tensor(temperatures, device=logits.device)[:, None]


def _of(values: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """Return some of the rows; all of them without a copy."""
    return values if len(rows) == len(values) else values[rows]


def _draw(probs: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Invert the cumulative distribution, in two steps so that it is summed only in blocks.

    Args:
        probs: ``[rows, V]``; a token whose probability is 0 is never drawn.
        draws: Their random numbers.

    Returns:
        Ids ``[rows]``.
    """
    blocks = _in_blocks(probs, 0.0)
    block, uniforms = _pick(blocks.sum(-1), _uniforms(draws, probs.device))
    inside, _ = _pick(_at(blocks, block), uniforms)
    # Only a row of NaN is ever found in the padding.
    return (block * _BLOCK + inside).clamp(max=probs.shape[1] - 1)


def _uniforms(draws: Sequence[Draw], device: torch.device) -> torch.Tensor:
    return torch.tensor([draw.uniform for draw in draws], device=device, dtype=torch.float64)


def _mode(scaled: torch.Tensor) -> torch.Tensor:
    """Return the first of the greatest in each row; torch's own argmax is far slower."""
    blocks = _in_blocks(scaled, -torch.inf)
    block = blocks.amax(-1).argmax(-1)
    return block * _BLOCK + _at(blocks, block).argmax(-1)


def _in_blocks(values: torch.Tensor, padding: float) -> torch.Tensor:
    missing = -values.shape[1] % _BLOCK
    if missing:
        values = torch.nn.functional.pad(values, (0, missing), value=padding)
    return values.reshape(values.shape[0], -1, _BLOCK)


def _at(blocks: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    return blocks[torch.arange(len(blocks), device=blocks.device), block]


def _pick(masses: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pick an entry a row by its mass, never one without mass.

    Args:
        masses: ``[rows, n]``, not negative.
        uniforms: ``[rows]`` in [0, 1), float64.

    Returns:
        Indices ``[rows]``, and what is left of each random number within the entry: again uniform
        in [0, 1).
    """
    upto = masses.double().cumsum(-1)
    target = uniforms * upto[:, -1]
    index = torch.searchsorted(upto, target[:, None], right=True).clamp(max=masses.shape[1] - 1)
    mass = masses.gather(1, index).double()[:, 0]
    before = upto.gather(1, index)[:, 0] - mass
    return index[:, 0], ((target - before) / mass).clamp(0.0, _BELOW_ONE)


def _add_alternatives(tokens: list[Token], scaled: torch.Tensor, draws: Sequence[Draw]) -> None:
    """Give the rows that are not truncated their most probable tokens, if they ask for them."""
    for row, draw in enumerate(draws):
        if draw.top_logprobs and not draw.truncates:
            token = tokens[row]
            values, ids = scaled[row].topk(min(draw.top_logprobs, scaled.shape[1]))
            logprobs = values - scaled[row, token.id] + token.logprob
            tokens[row] = Token(token.id, token.logprob, _alternatives(ids, logprobs))


def _draw_truncated(
    scaled: torch.Tensor, probs: torch.Tensor, draws: Sequence[Draw]
) -> Iterator[tuple[int, Token]]:
    """Yield the tokens of the rows that are truncated.

    A row is drawn once enough of its most probable tokens were looked at to know which are kept.
    """
    rows = [row for row, draw in enumerate(draws) if draw.truncates]
    vocabulary = scaled.shape[1]
    for enough in (*_ENOUGH, vocabulary):
        if not rows:
            return
        count = min(enough, vocabulary)
        cut = [draws[row] for row in rows]
        best = _of(scaled, rows).topk(count).indices
        masses = probs[torch.tensor(rows, device=probs.device)[:, None], best]
        kept = _kept(masses.double(), cut)
        tokens = _draw_kept(best, kept, cut)
        known = _known(kept, cut) if count < vocabulary else [True] * len(rows)
        yield from ((row, t) for row, t, sure in zip(rows, tokens, known, strict=True) if sure)
        rows = [row for row, sure in zip(rows, known, strict=True) if not sure]


def _kept(masses: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Keep the ``top_k`` most probable tokens, and of these as few as hold ``top_p`` of their mass.

    Args:
        masses: Probabilities of each row's most probable tokens, best first, ``[rows, K]`` float64.
        draws: How each row is truncated (nucleus sampling: arXiv 1904.09751).

    Returns:
        ``masses`` with those that are not kept set to 0.
    """
    count, device = masses.shape[1], masses.device
    limits = torch.tensor([min(draw.top_k, count) or count for draw in draws], device=device)
    masses = masses * (torch.arange(count, device=device) < limits[:, None])
    upto = masses.cumsum(-1)
    limited = torch.tensor([draw.top_k > 0 for draw in draws], device=device)
    shares = torch.tensor([draw.top_p for draw in draws], device=device, dtype=torch.float64)
    wanted = shares * torch.where(limited, upto[:, -1], 1.0)
    return masses * (upto - masses < wanted[:, None])


def _known(kept: torch.Tensor, draws: Sequence[Draw]) -> list[bool]:
    """Return for each row whether all that is kept is among the ``K`` that were looked at."""
    ends = (kept[:, -1] == 0).tolist()
    return [
        draw.top_k <= kept.shape[1] if draw.top_k else end
        for draw, end in zip(draws, ends, strict=True)
    ]


def _draw_kept(best: torch.Tensor, kept: torch.Tensor, draws: Sequence[Draw]) -> list[Token]:
    """Draw from each row's tokens ``best``, ``[rows, K]``, by the masses ``kept``."""
    places, _ = _pick(kept, _uniforms(draws, kept.device))
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
