"""Checks which models the compiled libraries can run: Llama-like ones of certain sizes."""

from __future__ import annotations

from typing import Any

import torch

MODEL_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
HEAD_SIZES = frozenset({16, 32, 64, 80, 96, 128, 256})
LANES = 16
"""The fp32 numbers in a vector of the compiled libraries."""


def unsupported(model: Any) -> str | None:
    """Return why the compiled libraries cannot run a transformers model; None if they can."""
    missing = _missing_code(model.config)
    if missing is None:
        missing = _missing_size(model)
    return None if missing is None else f"it has no code for {missing}"


def _missing_code(config: Any) -> str | None:
    if config.model_type not in MODEL_TYPES:
        return f"models of the type {config.model_type!r}"
    if config.hidden_act != "silu":
        return f"the activation {config.hidden_act!r}"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if config.model_type == "mistral" and config.sliding_window:
        kinds.add("sliding_attention")
    if kinds != {"full_attention"}:
        return f"layers of the types {sorted(kinds)}"
    return None


def _missing_size(model: Any) -> str | None:
    positions, head_size = (
        model.model.rotary_emb.rope_type,
        model.model.layers[0].self_attn.head_dim,
    )
    if positions in {"dynamic", "longrope"}:
        return f"{positions!r} positions"
    if head_size not in HEAD_SIZES:
        return f"heads of {head_size}"
    if model.config.hidden_size % LANES:
        return f"{model.config.hidden_size} hidden units"
    if model.dtype not in {torch.bfloat16, torch.float32} or model.device.type != "cpu":
        return f"{model.dtype} on {model.device}"
    return None
