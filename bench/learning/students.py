"""The students that run in our own environment: our learner, and filtered fine-tuning."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from models.adapters import STATE_FILE, AdapterStore, Origin
from models.base.loading import load_base
from models.learning.learner import Learner
from models.policy.batch import micro_batches
from models.policy.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.learning.rounds import Voted
    from models.settings import LearnerSettings
    from models.types import Sample

REMEMBERED = 128
"""Liked replies that filtered fine-tuning goes over at most, the newest ones."""


class Ours:
    """Our learner with a recipe of its own; it may forget its state between updates."""

    def __init__(self, settings: LearnerSettings, *, every: int, forgetful: bool = False) -> None:
        self.every = every
        self._forgetful = forgetful
        recipe = settings.effective_recipe
        self._model_votes = recipe.reward_model_votes if recipe.practice_rounds else 0
        self._learner = Learner(settings)
        self._past: dict[str, Voted] = {}

    def learn(self, batch: Sequence[Voted], parent: str, number: int) -> tuple[str, dict[str, Any]]:
        """Run one update, with the votes of earlier ones where the recipe has practice.

        A vote that was taken back is remembered in its later form only, as by the product.
        """
        for voted in batch:
            self._past.pop(voted.sample.completion_id, None)
        learned = self._learner.learn(
            [voted.sample for voted in batch],
            parent=parent,
            seed=number,
            progress=lambda _: None,
            earlier=self._earlier(batch),
        )
        self._past |= {voted.sample.completion_id: voted for voted in batch}
        if self._forgetful:
            learned = replace(learned, write_files=without_state(learned.write_files))
        manifest = self._learner.publish(
            learned, sequence=number, parent=parent, batch_hash="", fence=0, now=time.time()
        )
        return manifest.version, learned.report

    def _earlier(self, batch: Sequence[Voted]) -> list[Sample]:
        """Return the votes of earlier updates that the reward model is fitted to."""
        room = max(0, self._model_votes - len(batch))
        return [voted.sample for voted in list(self._past.values())[-room:] if room]


def without_state(write_files: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return what writes the same files but the learner's state."""

    def write(folder: Path) -> None:
        write_files(folder)
        (folder / STATE_FILE).unlink()

    return write


class FilteredSft:
    """Fine-tunes the base anew on all liked replies so far, as ReSpect does (arXiv 2410.13852).

    The liked replies of a person who took the vote back are forgotten.
    """

    def __init__(self, settings: LearnerSettings, *, every: int, epochs: int = 3) -> None:
        self.every = every
        self._settings, self._epochs = settings, epochs
        self._base = load_base(settings)
        self._policy = Policy(self._base, settings)
        self._store = AdapterStore(settings.adapters_dir)
        self._liked: dict[str, Voted] = {}

    def learn(self, batch: Sequence[Voted], parent: str, number: int) -> tuple[str, dict[str, Any]]:
        """Start from the base and go over the liked replies."""
        for voted in batch:
            self._liked.pop(voted.sample.completion_id, None)
            if voted.liked:
                self._liked[voted.sample.completion_id] = voted
        samples = [voted.sample for voted in list(self._liked.values())[-REMEMBERED:]]
        self._policy.reset(number)
        losses = self._fit(samples, number) if samples else []
        origin = Origin(
            parent, number, "", 0, self._base.name, self._base.content_hash, time.time()
        )
        manifest = self._store.publish(number, origin, self._policy.save)
        return manifest.version, {"liked": len(samples), "losses": losses}

    def _fit(self, samples: Sequence[Any], seed: int) -> list[float]:
        """Return the mean negative log-prob a token of each epoch."""
        recipe = self._settings.effective_recipe
        optimizer = torch.optim.Adam(self._policy.master.values(), lr=recipe.learning_rate)
        order, losses = torch.Generator().manual_seed(seed), []
        size = recipe.minibatch
        for _ in range(self._epochs):
            shuffled = torch.randperm(len(samples), generator=order).tolist()
            total = tokens = 0.0
            for start in range(0, len(shuffled), size):
                rows = shuffled[start : start + size]
                count = sum(len(samples[row].response_ids) for row in rows)
                optimizer.zero_grad()
                for micro in micro_batches(
                    samples,
                    rows,
                    tokens=self._settings.micro_batch_tokens,
                    device=self._settings.device,
                ):
                    loss = -self._policy.logprobs(micro)[micro.mask].sum()
                    (loss / count).backward()
                    total += float(loss.detach())
                tokens += count
                torch.nn.utils.clip_grad_norm_(self._policy.master.values(), 1.0)
                optimizer.step()
                self._policy.publish_master()
            losses.append(total / tokens)
        return losses
