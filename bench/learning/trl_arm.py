"""The arms that TRL's trainers learn. It runs in TRL's environment, one process a run.

Takes one JSON object as its argument and prints one JSON line for each adapter that it saved. The
people are those of the other arms. RLOO and PPO make their own replies and want a reward at once,
so their votes are never late or reversed, which is an advantage. Products are bf16, TRL's default,
except PPO's, whose trainer leaves them fp32.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

from bench.learning.people import Habits, World

if TYPE_CHECKING:
    from collections.abc import Callable

SAVE_EVERY = 32
"""Labels between two saved adapters."""
REMEMBERED = 128
"""Votes that KTO goes over at each update, the newest ones."""
BATCH = 8


@dataclass(frozen=True, slots=True)
class Order:
    """What to learn: a run of the benchmark, the base's folder, and where adapters go."""

    method: str
    taste: str
    seed: int
    rate: float
    labels: int
    users: int
    tokens: int
    adversaries: float
    lag: int
    base: str
    out: str


class Apprentice:
    """What all methods share: the model, the people, and the adapters saved so far."""

    def __init__(self, order: Order) -> None:
        torch.manual_seed(order.seed)
        self.order = order
        habits = Habits(adversaries=order.adversaries, lag=order.lag)
        self.world = World(order.taste, order.seed, order.users, habits)
        self.tokenizer = AutoTokenizer.from_pretrained(order.base)
        self.model = AutoModelForCausalLM.from_pretrained(order.base, dtype=torch.float32)
        self.lora = LoraConfig(
            task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear"
        )
        self.asked = 0
        self.labels = 0
        self._due = SAVE_EVERY

    def ask(self) -> Any:
        """Return the next turn."""
        self.asked += 1
        return self.world.turn(self.asked - 1)

    def react(self, turn: Any, text: str) -> float:
        """Return what a turn's user clicks at once; it costs a label."""
        self.labels += 1
        meant = self.world.votes(turn, [text], 0)[-1]
        return 1.0 if meant.up else -1.0

    def save(self, model: Any) -> None:
        """Save an adapter, when one is due, and print where it is."""
        if self.labels < self._due:
            return
        self._due += SAVE_EVERY
        folder = Path(self.order.out) / str(self.labels)
        model.save_pretrained(folder)
        print(json.dumps({"labels": self.labels, "folder": str(folder)}), flush=True)

    def questions(self, count: int) -> Dataset:
        """Return so many turns as prompts; ``turn`` finds each one again."""
        turns = [self.world.turn(number) for number in range(count)]
        rows = [
            {"prompt": [{"role": "user", "content": turn.prompt}], "turn": turn.number}
            for turn in turns
        ]
        return Dataset.from_list(rows)

    def encode(self, prompt: str) -> list[int]:
        """Return a prompt as the base's template has it."""
        chat = [{"role": "user", "content": prompt}]
        text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids


class SaveAfterSteps(TrainerCallback):
    """Saves when enough labels were given."""

    def __init__(self, apprentice: Apprentice, model: Any = None) -> None:
        self._apprentice, self._model = apprentice, model

    def on_step_end(self, *_: Any, model: Any = None, **__: Any) -> None:
        """Save when one is due."""
        self._apprentice.save(self._model or model)


def common(order: Order) -> dict[str, Any]:
    """Return the trainers' settings that all methods have in common."""
    return {
        "output_dir": str(Path(order.out) / "trainer"),
        "learning_rate": order.rate,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": BATCH,
        "max_grad_norm": 1.0,
        "bf16": True,
        "gradient_checkpointing": False,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "seed": order.seed,
    }


def rloo(apprentice: Apprentice) -> None:
    """Two replies a prompt, both rated; four passes over each batch, as ours."""
    from trl import RLOOConfig, RLOOTrainer  # noqa: PLC0415 - one method a process

    order = apprentice.order
    per_round = 16
    arguments = RLOOConfig(
        **common(order),
        num_generations=2,
        max_completion_length=order.tokens,
        temperature=1.0,
        beta=0.05,
        num_iterations=4,
        steps_per_generation=per_round // BATCH,
        max_steps=order.labels // per_round * 4 * (per_round // BATCH),
    )

    def people(completions: list[Any], turn: list[int], **_: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        turns = [apprentice.world.turn(number) for number in turn]
        return [apprentice.react(each, text) for each, text in zip(turns, texts, strict=True)]

    trainer = RLOOTrainer(
        model=apprentice.model,
        reward_funcs=people,
        args=arguments,
        train_dataset=apprentice.questions(order.labels),
        processing_class=apprentice.tokenizer,
        peft_config=apprentice.lora,
        callbacks=[SaveAfterSteps(apprentice)],
    )
    trainer.train()


def ppo(apprentice: Apprentice) -> None:
    """TRL's PPO with people in the reward model's place; a label for each reply."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer  # noqa: PLC0415

    order, tokenizer = apprentice.order, apprentice.tokenizer
    tokenizer.padding_side = "left"
    load = AutoModelForSequenceClassification.from_pretrained
    value = load(order.base, num_labels=1, dtype=torch.float32)
    judge = torch.nn.Identity()
    scored_by_model = ppo_trainer.get_reward

    def get_reward(model: Any, ids: torch.Tensor, pad: int, context: int) -> Any:
        if model is not judge:
            return scored_by_model(model, ids, pad, context)
        texts = tokenizer.batch_decode(ids[:, context:], skip_special_tokens=True)
        # The trainer shuffles the prompts: whoever asks next gets the reply to this one.
        scores = [apprentice.react(apprentice.ask(), text) for text in texts]
        return None, torch.tensor(scores, device=ids.device), None

    ppo_trainer.get_reward = get_reward
    torch.set_float32_matmul_precision("medium")  # fp32 by oneDNN: MKL's take twice as long here
    per_round = 16
    arguments = PPOConfig(
        # a whole round a device: minibatches that accumulate make one step
        **common(order) | {"per_device_train_batch_size": per_round},
        num_mini_batches=per_round // BATCH,
        total_episodes=order.labels,
        response_length=order.tokens,
        temperature=1.0,
        stop_token="eos",  # noqa: S106 - the end of a reply
        missing_eos_penalty=None,
        num_sample_generations=0,
        local_rollout_forward_batch_size=per_round,
        num_ppo_epochs=4,
        kl_coef=0.05,
    )
    rows = [
        {"input_ids": apprentice.encode(row["prompt"][0]["content"])}
        for row in apprentice.questions(order.labels)
    ]
    policy = get_peft_model(apprentice.model, apprentice.lora)
    trainer = PPOTrainer(
        args=arguments,
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=judge,
        value_model=value,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:BATCH]),
        callbacks=[SaveAfterSteps(apprentice, policy)],
    )
    trainer.train()


def kto(apprentice: Apprentice, *, weighted: bool = False, beta: float = 0.1) -> None:
    """Chat, collect votes, and go over the newest ones with TRL's KTO after each 32 labels.

    ``weighted`` lets likes and dislikes count the same together, as TRL advises. With a small
    ``beta`` the loss is a straight line: no vote is ever learned enough.
    """
    from trl import KTOConfig, KTOTrainer  # noqa: PLC0415 - one method a process

    order, tokenizer = apprentice.order, apprentice.tokenizer
    base = AutoModelForCausalLM.from_pretrained(order.base, dtype=torch.float32)
    model = get_peft_model(apprentice.model, apprentice.lora)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=order.rate, weight_decay=0.0
    )
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    votes: dict[int, dict[str, Any]] = {}
    waiting: list[tuple[int, int, dict[str, Any]]] = []
    for number in range(10 * order.labels // SAVE_EVERY):
        turns = [apprentice.ask() for _ in range(SAVE_EVERY)]
        texts = answer(apprentice, model, [turn.prompt for turn in turns])
        for turn, text in zip(turns, texts, strict=True):
            for cast in apprentice.world.votes(turn, [text], number):
                row = {
                    "prompt": [{"role": "user", "content": turn.prompt}],
                    "completion": [{"role": "assistant", "content": text}],
                    "label": cast.up,
                }
                waiting.append((cast.arrives, turn.number, row))
        here = [vote for vote in waiting if vote[0] <= number][:SAVE_EVERY]
        if len(here) < SAVE_EVERY:
            continue
        waiting = [vote for vote in waiting if vote not in here]
        for _, turn_number, row in here:
            votes.pop(turn_number, None)
            votes[turn_number] = row
        apprentice.labels += len(here)
        newest = list(votes.values())[-REMEMBERED:]
        weights = even_weights([row["label"] for row in newest]) if weighted else {}
        trainer = KTOTrainer(
            model=model,
            ref_model=base,
            args=KTOConfig(
                **common(order), **weights, num_train_epochs=1, max_length=256, beta=beta
            ),
            train_dataset=Dataset.from_list(newest),
            processing_class=tokenizer,
            optimizers=(optimizer, constant),
        )
        trainer.train()
        apprentice.save(model)
        if apprentice.labels >= order.labels:
            return


def even_weights(liked: list[bool]) -> dict[str, float]:
    """Return KTO's weights by which the commoner kind of vote counts no more than the other."""
    likes = sum(liked)
    dislikes = len(liked) - likes
    if not likes or not dislikes:
        return {}
    return {
        "desirable_weight": min(1.0, dislikes / likes),
        "undesirable_weight": min(1.0, likes / dislikes),
    }


@torch.inference_mode()
def answer(apprentice: Apprentice, model: Any, prompts: list[str]) -> list[str]:
    """Return a reply to each prompt, drawn at temperature 1."""
    tokenizer = apprentice.tokenizer
    encoded = [apprentice.encode(prompt) for prompt in prompts]
    longest = max(map(len, encoded))
    pad = tokenizer.pad_token_id or tokenizer.eos_token_id
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in encoded])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in encoded])
    model.eval()
    out = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=apprentice.order.tokens,
        do_sample=True,
        top_k=0,
        pad_token_id=pad,
    )
    model.train()
    texts: list[str] = tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
    return texts


_EVEN_KTO = partial(kto, weighted=True)
METHODS: dict[str, Callable[[Apprentice], None]] = {
    "rloo": rloo,
    "ppo": ppo,
    "kto": kto,
    "kto-weighted": _EVEN_KTO,
    "kto-fast": _EVEN_KTO,
    "kto-linear": partial(kto, weighted=True, beta=1e-3),
}


if __name__ == "__main__":
    wanted = Order(**json.loads(sys.argv[1]))
    METHODS[wanted.method](Apprentice(wanted))
