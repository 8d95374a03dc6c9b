"""Compares our gradient of the whole batch, in bf16 and in fp32, with a plain fp32 one.

The plain one goes through transformers, peft and autograd, with whole distributions, and shares
only numbers with ours. The loss is the decoupled clipped one plus the KL to the base.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM

from bench.train.given import given, timed
from bench.train.ours import samples, settings
from models.learning.epochs import Epochs
from models.learning.learner import Learner
from models.learning.scoring import score_samples
from models.learning.state import LearnerState

BETA = 0.05


def ours(asked: dict[str, Any], folder: Path, dtype: str) -> dict[str, torch.Tensor]:
    """Return the gradients by the names of peft's files."""
    chosen = settings(asked, folder, dtype=dtype, kl_coefficient=BETA, kl_power=0.0)
    policy = Learner(chosen)._policy  # noqa: SLF001 - the bench looks inside
    policy.load(Path(asked["adapter"]))
    batch, state = samples(asked), LearnerState()
    scored = score_samples(batch, policy, state, chosen.recipe, lambda _: None)
    optimizer = torch.optim.Adam(policy.master.values())
    schedule = LambdaLR(optimizer, lambda _: 1.0)
    order = torch.Generator()
    epochs = Epochs(policy, batch, scored, schedule, order, chosen.recipe, chosen)
    epochs.add_gradients(range(len(batch)))
    return {k: m.grad for k, m in policy.master.items() if m.grad is not None}


def plain(asked: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the same, written down as the equations of docs/internals/update.md have it."""
    base = AutoModelForCausalLM.from_pretrained(asked["base"], dtype=torch.float32)
    model = PeftModel.from_pretrained(base, asked["adapter"], is_trainable=True).eval()
    rewards = torch.tensor([vote["reward"] for vote in asked["votes"]])
    count = len(rewards)
    others = (rewards.sum() - rewards) / (count - 1)
    scores = rewards - others
    if count >= 16:
        scores /= scores.std(correction=0).clamp(min=0.25)
    for vote, score in zip(asked["votes"], scores, strict=True):
        ids = torch.tensor([vote["prompt"] + vote["reply"]])
        prompt = len(vote["prompt"])
        with torch.no_grad(), model.disable_adapter():
            reference = model(input_ids=ids).logits[0, prompt - 1 : -1].log_softmax(-1)
        new = model(input_ids=ids).logits[0, prompt - 1 : -1].log_softmax(-1)
        chosen = new.gather(1, ids[0, prompt:, None])[:, 0]
        start, behaviour = chosen.detach(), torch.tensor(vote["logprobs"])
        if score < 0 and (behaviour - start).mean() > 0.5:
            weights = torch.zeros_like(start)
        else:
            weights = (start - behaviour).exp().clamp(max=2)
        policy_loss = -(weights * (chosen - start).exp() * score).sum()
        to_base = (new.exp() * (new - reference)).sum()
        ((policy_loss + BETA * to_base) / 64 / count).backward()
    return {
        name.replace(".default.", "."): p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def compare(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the cosine between two gradients, and how long ours is beside theirs."""
    names = sorted(theirs)
    a = torch.cat([ours[name].flatten() for name in names]).double()
    b = torch.cat([theirs[name].flatten() for name in names]).double()
    return {
        "cosine": round(float(a @ b / (a.norm() * b.norm())), 5),
        "relative_norm": round(float(a.norm() / b.norm()), 5),
    }


def main() -> None:
    """Run the comparison."""
    asked = given()
    theirs = plain(asked)
    with tempfile.TemporaryDirectory() as folder, timed() as figures:
        for dtype in ("bfloat16", "float32"):
            figures[dtype] = compare(ours(asked, Path(folder), dtype), theirs)


if __name__ == "__main__":
    main()
