"""The arms of the learning benchmark by name: what each learns with, and at what rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bench.learning.students import FilteredSft, Ours
from models.recipe import find
from models.settings import LearnerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.learning.rounds import Student

EVERY = 16


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to learn from the same votes.

    Attributes:
        about: What it is, for the tables.
        changes: What it changes of the recipe that it is based on.
        every: Votes in one update; a comparison is two votes, and one label.
        habits: What it changes of how people vote.
        rate: Its learning rate, chosen on seeds of its own (see TRIALS.md).
        kind: Which student it has; ``trl`` learns in a process of its own (``trl_arm``).
        based_on: The name of a recipe.
        rank: Of its adapters; their alpha is twice as much.
    """

    about: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    every: int = EVERY
    habits: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 1.6e-3
    kind: str = "ours"
    based_on: str = "thumbloop"
    rank: int = 8

    def settings(self, data_dir: Path, rate: float) -> LearnerSettings:
        """Return the settings of its learner, which learns at this rate."""
        recipe = replace(find(self.based_on), **{"learning_rate": rate, **self.changes})
        return LearnerSettings(
            data_dir=data_dir, recipe=recipe, lora_rank=self.rank, lora_alpha=2 * self.rank
        )


ARMS: Mapping[str, Arm] = {
    "ours": Arm("our learner with its defaults"),
    "leave-one-out": Arm("votes against the mean of the others", {"advantage": "leave_one_out"}),
    "practice-5": Arm("up to five rounds of such replies", {"practice_rounds": 5}),
    "without-practice": Arm("from votes alone", {"practice_rounds": 0}),
    # Without one thing each.
    "no-kl": Arm("without KL to the base", {"kl_coefficient": 0.0}),
    "fixed-kl": Arm("β fixed at 0.05, however near the base", {"kl_power": 0.0}),
    "far": Arm("β of 0.05 at 16 nats instead of 10", {"kl_target": 16.0}),
    "steep": Arm("β that grows with the sixth power of the distance", {"kl_power": 6.0}),
    "no-baseline": Arm("votes as advantages", {"advantage": "none"}),
    "no-user-means": Arm("leave-one-out mean only", {"user_prior": 1e9}),
    "uncorrected": Arm(
        "stale votes as if they were fresh", {"stale_votes": "none", "max_drift": math.inf}
    ),
    "no-mask": Arm("disliked replies from afar are kept", {"max_drift": math.inf}),
    "forgetful": Arm("a new Adam and user means for each update", kind="forgetful"),
    "one-epoch": Arm("one pass over each batch", {"epochs": 1}),
    "no-early-stop": Arm(
        "all four passes, however far the first ones went", {"max_step_kl": math.inf}
    ),
    "constant-rate": Arm(
        "the rate neither rises at first nor falls later",
        {"rate_warmup_steps": 0, "rate_decay_steps": math.inf},
    ),
    # With one thing more, or another.
    "kl-in-reward": Arm("KL of sampled tokens in the reward", {"kl_form": "reward"}),
    "critic": Arm("a learned critic as baseline", {"advantage": "critic"}),
    "per-token": Arm("the mean over the tokens of a minibatch", {"length_form": "token"}),
    "adam": Arm("Adam's usual ε of 1e-5", {"adam_eps": 1e-5}, rate=8e-4),
    "momentum": Arm(
        "an ε of 1e-3: nearly plain momentum",
        {"adam_eps": 1e-3},
        rate=4e-3,
    ),
    "whole-batch": Arm("one optimiser step an epoch", {"minibatch": 0}),
    "rank-1": Arm("rank 1", rank=1),
    "rank-32": Arm("rank 32", rank=32),
    "batch-32": Arm("32 votes an iteration", {"iteration_votes": 0}, every=32),
    "batch-64": Arm("64 votes an update, in iterations of 16", every=64),
    "undivided": Arm("64 votes an update, in one iteration", {"iteration_votes": 0}, every=64),
    "batch-8": Arm("8 votes an update", every=8),
    "high-clip": Arm("ratios clipped to 0.8..3", {"clip_high": 2.0}),
    "wide-clip": Arm("ratios clipped to 0.1..1.9", {"clip": 0.9, "clip_high": 0.9}),
    # Learning from what else people say.
    "ratings": Arm("0 to 5 stars instead of thumbs", habits={"form": "ratings"}),
    "comparisons": Arm(
        "which of two replies is better", every=2 * EVERY, habits={"form": "comparisons"}
    ),
    "corrections": Arm(
        "three of ten dislikes come with a better reply",
        {"corrections": 0.5},
        habits={"form": "corrections"},
    ),
    # Our learner under the conditions that TRL's RLOO and PPO ask for.
    "punctual": Arm("no vote late or reversed", habits={"late": 0.0, "reversal": 0.0}),
    # Others.
    "article": Arm("the article's PPO", based_on="article", rate=4e-4),
    "sft": Arm(
        "filtered fine-tuning on all liked replies",
        every=32,
        rate=1.6e-3,
        kind="sft",
    ),
    "kto": Arm("TRL 1.9 KTO", rate=8e-4, kind="trl"),
    "kto-weighted": Arm("TRL 1.9 KTO, likes and dislikes alike", rate=8e-4, kind="trl"),
    "kto-fast": Arm(
        "TRL 1.9 KTO, likes and dislikes alike, at four times the rate",
        rate=3.2e-3,
        kind="trl",
    ),
    "kto-linear": Arm(
        "TRL 1.9 KTO, likes and dislikes alike, a loss that never saturates",
        rate=8e-4,
        kind="trl",
    ),
    "rloo": Arm("TRL 1.9 RLOO, two rated replies a prompt", rate=8e-4, kind="trl"),
    "ppo": Arm("TRL 1.9 PPO, a label for each reply", rate=8e-4, kind="trl"),
}


def make_student(arm: Arm, settings: LearnerSettings) -> Student:
    """Return the student of an arm that is not TRL's; ``settings`` are the arm's own."""
    if arm.kind == "sft":
        return FilteredSft(settings, every=arm.every)
    return Ours(settings, every=arm.every, forgetful=arm.kind == "forgetful")
