"""Only the arithmetic of the update: bare bf16 products of the same shapes.

Every layer has weights of its own, so that they come from memory as they do in the update.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from bench.train.given import given, timed


def weights(base: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return random matrices of the shapes of a Llama's layers, and of its head."""
    config = json.loads((Path(base) / "config.json").read_text())
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    size = config.get("head_dim") or hidden // config["num_attention_heads"]
    joined = (config["num_attention_heads"] + 2 * config["num_key_value_heads"]) * size
    shapes = [
        (joined, hidden),
        (hidden, config["num_attention_heads"] * size),
        (2 * wide, hidden),
        (hidden, wide),
    ] * config["num_hidden_layers"]
    head = torch.randn(config["vocab_size"], hidden, dtype=torch.bfloat16)
    return [torch.randn(shape, dtype=torch.bfloat16) for shape in shapes], head


def main() -> None:
    """Run the arm: two scoring passes, then each epoch's forward and backward products."""
    asked = given()
    layers, head = weights(asked["base"])
    size, count = asked["minibatch"], len(asked["votes"])
    vote = asked["votes"][0]
    tokens = size * (len(vote["prompt"]) + len(vote["reply"]))
    inputs = {w.shape[1]: torch.randn(tokens, w.shape[1]).bfloat16() for w in layers}
    outputs = {w.shape[0]: torch.randn(tokens, w.shape[0]).bfloat16() for w in layers}
    kept = torch.randn(size * len(vote["reply"]), head.shape[1]).bfloat16()
    dlogits = torch.randn(len(kept), head.shape[0]).bfloat16()
    epochs, steps = asked["epochs"], count // size
    with timed():
        for _ in range(steps * (2 + epochs)):
            for weight in layers:
                inputs[weight.shape[1]] @ weight.T
        for _ in range(steps * epochs):
            for weight in layers:
                outputs[weight.shape[0]] @ weight
        # the head: start and reference; in each epoch the policy's and the base's distributions
        for _ in range(steps * (2 + 2 * epochs)):
            kept @ head.T
        for _ in range(steps * epochs):
            dlogits @ head


if __name__ == "__main__":
    main()
