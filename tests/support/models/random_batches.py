"""Random batches for property tests: any mask, lengths from 1, log-probs from likely to absurd."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

Array = np.ndarray


@dataclass(frozen=True)
class Batch:
    """Arrays ``[B, T]`` in float64, NaN where masked out, and votes ``[B]``."""

    mask: Array
    new: Array
    start: Array
    reference: Array
    behaviour: Array
    values: Array
    rewards: Array

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(getattr(self, name).copy())


@st.composite
def batches(draw: st.DrawFn, *, holes: bool = True, empty_rows: bool = True) -> Batch:
    rows, tokens = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = rng.integers(0 if empty_rows else 1, tokens + 1, rows)
    mask = np.arange(tokens) < lengths[:, None]
    if holes and draw(st.booleans()):
        mask &= rng.random((rows, tokens)) < 0.7
    # the widest puts a likelihood ratio beyond what fp32 can hold
    spread = draw(st.sampled_from([0.0, 0.1, 1.0, 100.0]))
    new, start, reference, behaviour = -np.abs(rng.normal(0, spread + 1e-9, (4, rows, tokens)))
    votes = draw(st.sampled_from(["alike", "thumbs", "ratings"]))
    rewards = {
        "alike": np.full(rows, rng.choice([-1.0, 1.0])),
        "thumbs": rng.choice([-1.0, 1.0], rows),
        "ratings": rng.integers(0, 6, rows) / 2.5 - 1,
    }[votes]
    values = rng.normal(0, 1, (rows, tokens))
    kept = [np.where(mask, a, np.nan) for a in (new, start, reference, behaviour, values)]
    return Batch(mask, kept[0], kept[1], kept[2], kept[3], kept[4], rewards)
