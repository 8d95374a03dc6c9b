"""The arms of the learning benchmark by name: what each learns with, and at what rates it may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from learn.rounds import Student

    from models.settings import LearnerSettings

EVERY = 16


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to learn from the same votes.

    Attributes:
        about: What it is, for the tables.
        settings: What it changes of our learner's settings.
        every: Labels in one update.
        rates: The grid that its learning rate is chosen from, on seeds of its own.
        kind: Which student it has.
    """

    about: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    every: int = EVERY
    rates: tuple[float, ...] = (1e-4, 2e-4, 4e-4, 8e-4)
    kind: str = "ours"


ARMS: Mapping[str, Arm] = {
    "ours": Arm("our learner with its defaults"),
    "no-kl": Arm("without KL to the base", {"kl_start": 0.0}),
    "kl-in-reward": Arm("KL of sampled tokens in the reward", {"kl_form": "reward"}),
    "no-user-means": Arm("leave-one-out mean only", {"user_prior": 1e9}),
    "one-epoch": Arm("one pass over each batch", {"epochs": 1}),
    "whole-batch": Arm("one optimiser step an epoch", {"minibatch": 0}),
    "replay": Arm("with 32 replayed votes", {"replay_votes": 32}),
    "rank-1": Arm("rank 1", {"lora_rank": 1, "lora_alpha": 2}),
    "rank-32": Arm("rank 32", {"lora_rank": 32, "lora_alpha": 64}),
    "batch-32": Arm("32 votes an update", every=32),
    "sft": Arm("filtered fine-tuning on all liked replies", every=32, kind="sft"),
}


def make_student(arm: Arm, settings: LearnerSettings) -> Student:
    """Return an arm's student; ``settings`` hold the arm's own already."""
    from learn.students import FilteredSft, Ours  # noqa: PLC0415 - loads a model

    if arm.kind == "sft":
        return FilteredSft(settings, every=arm.every)
    return Ours(settings, every=arm.every)
