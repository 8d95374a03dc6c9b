"""The same update by TRL's PPO, in TRL's environment.

Set up as TRL's example is: a LoRA policy whose base, with the adapter off, is the reference, and a
value model as large as the policy, which is trained too. One forward pass over the given replies
replaces generation, and the votes replace the reward model; both are to TRL's advantage.
"""

from __future__ import annotations

import os
import tempfile
from types import SimpleNamespace
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from bench.train.given import choose_fp32_products, given, timed


class Votes(torch.nn.Module):
    """Stands where TRL has a reward model: gives each reply its vote, at no cost."""

    base_model_prefix = "backbone"

    def __init__(self, votes: dict[tuple[int, ...], float], prompt: int) -> None:
        super().__init__()
        self.votes, self.prompt = votes, prompt
        self.scores = torch.zeros(0)

    def backbone(self, input_ids: torch.Tensor, **_: Any) -> Any:
        """Take down the votes for these sequences."""
        found = [self.votes[tuple(row[: self.prompt].tolist())] for row in input_ids]
        self.scores = torch.tensor(found)[:, None, None].expand(-1, input_ids.shape[1], 1)
        return SimpleNamespace(hidden_states=(self.scores,))

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return them."""
        return hidden


def use_given_replies(votes: list[dict[str, Any]]) -> None:
    """Let one pass over the given replies stand for TRL's generation."""
    replies = {tuple(vote["prompt"]): vote["reply"] for vote in votes}
    prompt = len(votes[0]["prompt"])

    @torch.no_grad()
    def given_replies(
        policy: Any, queries: torch.Tensor, part: int, pad: int, _: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [[*q, *replies[tuple(q)]] for q in queries.tolist()]
        whole = torch.tensor(rows)
        logits = [
            ppo_trainer.forward(policy, ids, pad).logits[:, prompt - 1 : -1]
            for ids in whole.split(part)
        ]
        return whole, torch.cat(logits)

    ppo_trainer.batch_generation = given_replies


def arguments(asked: dict[str, Any], folder: str) -> PPOConfig:
    """Return the trainer's settings for one update over all votes."""
    votes, size = asked["votes"], asked["minibatch"]
    return PPOConfig(
        output_dir=folder,
        per_device_train_batch_size=len(votes),  # minibatches that accumulate make one step
        num_mini_batches=len(votes) // size,
        local_rollout_forward_batch_size=size,
        num_ppo_epochs=asked["epochs"],
        total_episodes=len(votes),
        response_length=len(votes[0]["reply"]),
        num_sample_generations=0,
        learning_rate=4e-4,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
    )


def make_trainer(asked: dict[str, Any], folder: str) -> PPOTrainer:
    """Load the policy and the value model, and give them the votes."""
    base, votes = asked["base"], asked["votes"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    load_value = AutoModelForSequenceClassification.from_pretrained
    rewards = {tuple(vote["prompt"]): vote["reward"] for vote in votes}
    return PPOTrainer(
        args=arguments(asked, folder),
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        ref_model=None,
        reward_model=Votes(rewards, len(votes[0]["prompt"])),
        train_dataset=Dataset.from_dict({"input_ids": [v["prompt"] for v in votes]}),
        eval_dataset=Dataset.from_dict({"input_ids": [votes[0]["prompt"]]}),
        value_model=load_value(base, num_labels=1, dtype=torch.float32),
        peft_config=LoraConfig(
            r=asked["rank"],
            lora_alpha=asked["alpha"],
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def main() -> None:
    """Run the arm."""
    asked = given()
    products = choose_fp32_products()
    use_given_replies(asked["votes"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(asked, folder)
        with timed() as figures:
            figures["fp32_products"] = products
            trainer.train()


if __name__ == "__main__":
    main()
