"""One update by this project's learner, with its defaults or with practice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.train.given import given, timed
from models.learning.learner import Learner
from models.recipe import THUMBLOOP
from models.settings import LearnerSettings
from models.types import Sample


def samples(asked: dict[str, Any]) -> list[Sample]:
    """Return the votes as the learner takes them."""
    return [
        Sample(
            completion_id=str(number),
            user=f"user-{number % 16}",
            prompt_ids=tuple(vote["prompt"]),
            response_ids=tuple(vote["reply"]),
            behaviour_logprobs=tuple(vote["logprobs"]),
            temperature=1.0,
            reward=vote["reward"],
            version=asked["version"],
            ended=True,
        )
        for number, vote in enumerate(asked["votes"])
    ]


def settings(
    asked: dict[str, Any], folder: Path, *, dtype: str = "bfloat16", **changes: Any
) -> LearnerSettings:
    """Return the defaults, with no early stop: every arm is to do all epochs.

    Args:
        asked: What all arms are given.
        folder: The data folder.
        dtype: Number format of the products.
        changes: Of the recipe.
    """
    recipe = replace(
        THUMBLOOP,
        epochs=asked["epochs"],
        minibatch=asked["minibatch"],
        max_step_kl=1e9,
        **changes,
    )
    return LearnerSettings(
        data_dir=folder,
        base_model=asked["base"],
        adapter_store=Path(asked["adapter"]).parent,
        dtype=dtype,
        recipe=recipe,
        lora_rank=asked["rank"],
        lora_alpha=asked["alpha"],
    )


def main() -> None:
    """Run the arm; its form is what it starts from, ``version`` or ``base``, or ``practice``."""
    asked = given()
    rounds = 3 if asked["form"] == "practice" else 0
    data_dir = Path(asked["adapter"]).parents[1]  # where kernels are compiled, as where one serves
    learner = Learner(settings(asked, data_dir, practice_rounds=rounds))
    parent = "base" if asked["form"] == "base" else asked["version"]
    with timed() as figures:
        learned = learner.learn(samples(asked), parent=parent, seed=0, progress=lambda _: None)
        figures["phases"] = learned.report["seconds"]


if __name__ == "__main__":
    main()
