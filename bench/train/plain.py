"""The same update as a plain loop over transformers and peft would do it, in fp32 or autocast.

Start and reference log-probs are taken once; the KL to the base is in the reward, which spares this
arm the reference's whole distributions, which our default form needs.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from bench.train.given import choose_fp32_products, given, timed


def logprobs(model: Any, ids: torch.Tensor, prompt: int) -> torch.Tensor:
    """Return log-probs of the replies, ``[B, T]``."""
    logits = model(input_ids=ids).logits[:, prompt - 1 : -1].float()
    of_tokens: torch.Tensor = logits.log_softmax(-1).gather(2, ids[:, prompt:, None])[..., 0]
    return of_tokens


def main() -> None:
    """Run the arm; its form is ``fp32`` or ``bf16``."""
    asked = given()
    products = choose_fp32_products()
    prompt, size = len(asked["votes"][0]["prompt"]), asked["minibatch"]
    base = AutoModelForCausalLM.from_pretrained(asked["base"], dtype=torch.float32)
    model = PeftModel.from_pretrained(base, asked["adapter"], is_trainable=True).eval()
    ids = torch.tensor([vote["prompt"] + vote["reply"] for vote in asked["votes"]])
    rewards = torch.tensor([vote["reward"] for vote in asked["votes"]])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=4e-4)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=asked["form"] == "bf16")
    with timed() as figures, autocast:
        figures["fp32_products"] = products
        with torch.no_grad():
            start = torch.cat([logprobs(model, part, prompt) for part in ids.split(size)])
            with model.disable_adapter():
                reference = torch.cat([logprobs(model, part, prompt) for part in ids.split(size)])
        advantages = (rewards - rewards.mean())[:, None] - 0.05 * (start - reference)
        for _ in range(asked["epochs"]):
            for rows in torch.randperm(len(ids)).split(size):
                ratio = (logprobs(model, ids[rows], prompt) - start[rows]).exp()
                gain = ratio * advantages[rows]
                held = ratio.clamp(0.8, 1.2) * advantages[rows]
                (-gain.minimum(held).sum(-1).mean() / 64).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()


if __name__ == "__main__":
    main()
