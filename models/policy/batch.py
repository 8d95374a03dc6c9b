"""Collates voted replies into padded micro-batches of similar length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.types import Sample


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The replies of one forward pass.

    Attributes:
        rows: The indices of the samples.
        ids: The token ids of prompt, reply and padding, ``[B, S]``.
        attention: True on prompt and reply, ``[B, S]``.
        reply_positions: The index in ``S`` whose logits predict each reply token, ``[B, T]``.
        reply_ids: The reply's token ids, ``[B, T]``; 0 where masked out.
        mask: True on reply tokens, ``[B, T]``.
        behaviour: The behaviour log-probs, ``[B, T]``; 0 where masked out or unknown.
        temperature: The sampling temperature of each reply, ``[B]``.
    """

    rows: tuple[int, ...]
    ids: torch.Tensor
    attention: torch.Tensor
    reply_positions: torch.Tensor
    reply_ids: torch.Tensor
    mask: torch.Tensor
    behaviour: torch.Tensor
    temperature: torch.Tensor


def unusable(sample: Sample, *, vocabulary: int, context: int | None) -> str | None:
    """Return why a vote cannot be learned from, as a sentence; None if it can.

    Args:
        sample: The vote. Its reply may have no log-probs at all.
        vocabulary: Token ids are below it.
        context: The most tokens that the base reads; None if it does not say.
    """
    if not sample.response_ids or not sample.prompt_ids:
        return "It has no tokens."
    return _wrong_numbers(sample) or _wrong_ids(sample, vocabulary, context)


def _wrong_numbers(sample: Sample) -> str | None:
    tokens, logprobs = len(sample.response_ids), sample.behaviour_logprobs
    if len(logprobs) not in {0, tokens}:
        return f"It has {tokens} tokens but {len(logprobs)} log-probs."
    if not all(map(math.isfinite, (*logprobs, sample.reward))):
        return "It has log-probs or a reward that are not finite."
    if len(sample.forced) >= tokens:
        return "A grammar forced all of its tokens."
    return None


def _wrong_ids(sample: Sample, vocabulary: int, context: int | None) -> str | None:
    ids = (*sample.prompt_ids, *sample.response_ids)
    if not 0 <= min(ids) <= max(ids) < vocabulary:
        return f"It has token ids outside of the base's, which end at {vocabulary - 1}."
    if context is not None and len(ids) > context:
        return f"It has {len(ids)} tokens, and the base reads {context} at most."
    return None


def micro_batches(
    samples: Sequence[Sample], rows: Sequence[int], *, tokens: int, device: str
) -> list[MicroBatch]:
    """Split ``rows`` of ``samples`` into micro-batches of similar length, longest first.

    Replies to one prompt stay together where they fit, so that a pass computes the prompt once.

    Args:
        samples: The batch.
        rows: The indices of the samples to split.
        tokens: The most rows times width of a micro-batch; a longer reply is alone in one.
        device: The device of the tensors.
    """
    found: list[list[int]] = []
    width = 0
    for row in _in_order(samples, rows):
        wider = max(width, token_count(samples[row]))
        if not found or (len(found[-1]) + 1) * wider > tokens:
            found.append([])
            wider = token_count(samples[row])
        found[-1].append(row)
        width = wider
    return [collate(samples, group, device=device) for group in found]


def _in_order(samples: Sequence[Sample], rows: Sequence[int]) -> list[int]:
    """Return rows by falling length; rows with one prompt follow the longest of them."""
    by_length = sorted(rows, key=lambda row: token_count(samples[row]), reverse=True)
    places: dict[tuple[int, ...], int] = {}
    for row in by_length:
        places.setdefault(samples[row].prompt_ids, len(places))
    return sorted(by_length, key=lambda row: places[samples[row].prompt_ids])


def collate(samples: Sequence[Sample], rows: Sequence[int], *, device: str) -> MicroBatch:
    """Pad the chosen samples on the right."""
    chosen = [samples[i] for i in rows]
    total = max(token_count(s) for s in chosen)
    longest = max(len(s.response_ids) for s in chosen)
    ids = torch.zeros(len(chosen), total, dtype=torch.long)
    attention = torch.zeros(len(chosen), total, dtype=torch.bool)
    reply_ids = torch.zeros(len(chosen), longest, dtype=torch.long)
    positions = torch.zeros(len(chosen), longest, dtype=torch.long)
    mask = torch.zeros(len(chosen), longest, dtype=torch.bool)
    behaviour = torch.zeros(len(chosen), longest)
    for b, sample in enumerate(chosen):
        prompt, reply = len(sample.prompt_ids), len(sample.response_ids)
        ids[b, : prompt + reply] = torch.tensor(sample.prompt_ids + sample.response_ids)
        attention[b, : prompt + reply] = True
        reply_ids[b, :reply] = torch.tensor(sample.response_ids)
        positions[b, :reply] = torch.arange(prompt - 1, prompt + reply - 1)
        mask[b, :reply] = True
        if sample.behaviour_logprobs:
            behaviour[b, :reply] = torch.tensor(sample.behaviour_logprobs)
    # A greedy reply (temperature 0) is learned as if it was drawn at temperature 1.
    temperature = torch.tensor([s.temperature or 1.0 for s in chosen])
    return MicroBatch(
        rows=tuple(rows),
        ids=ids.to(device),
        attention=attention.to(device),
        reply_positions=positions.to(device),
        reply_ids=reply_ids.to(device),
        mask=mask.to(device),
        behaviour=behaviour.to(device),
        temperature=temperature.to(device),
    )


def token_count(sample: Sample) -> int:
    """Return the number of tokens of prompt and reply."""
    return len(sample.prompt_ids) + len(sample.response_ids)
