"""Checks at start whether the generic runner decodes a model exactly."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, TOKENS = 2, 6


def unsupported_reason(model: Any, context: int) -> str | None:
    """Return why a model's classes or configuration rule it out; None if they do not.

    Args:
        model: A causal language model of transformers.
        context: The longest text to decode, in tokens.
    """
    if model.config.is_encoder_decoder:
        return "it has an encoder"
    if model._is_stateful:  # noqa: SLF001 - transformers offers no other name for it
        return "it keeps more state than keys and values"
    if not model._supports_attention_backend:  # noqa: SLF001 - likewise
        return "its attention cannot be replaced through transformers' AttentionInterface"
    text = model.config.get_text_config(decoder=True)
    shortest = min(_rotation_limits(text), default=context)
    if shortest < context:
        return (
            f"texts of more than {shortest} tokens rotate its positions differently (longrope), "
            f"so rows would change each other: set THUMBLOOP_CONTEXT_LENGTH to {shortest} or less"
        )
    return None


def probe_ids(model: Any) -> torch.Tensor:
    """Return fixed token ids to compare passes on, ``[ROWS, TOKENS]``."""
    vocabulary: int = model.config.get_text_config(decoder=True).vocab_size
    ids = torch.arange(1, ROWS * TOKENS + 1, device=model.device) * 7 % vocabulary
    return ids.view(ROWS, TOKENS)


@torch.inference_mode()
def run_reference(model: Any) -> tuple[torch.Tensor, frozenset[str]]:
    """Run the unchanged model on ``probe_ids``.

    Returns:
        The logits ``[ROWS, TOKENS, V]``, and the names of the linear layers whose inputs keep the
        rows apart, ``[rows, tokens, …]``.
    """
    with _input_shapes(model) as shapes:
        logits = model(input_ids=probe_ids(model), use_cache=False).logits
    row_wise = {name for name, seen in shapes.items() if seen == {(3, ROWS, TOKENS)}}
    return logits, frozenset(row_wise)


def logits_differ(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Return whether two logits ``[V]`` differ by more than rounding; NaN always differs."""
    most = 1e-3 if ours.dtype == torch.float32 else 0.1
    theirs = theirs.float()
    distance = (ours.float() - theirs).norm() / (theirs - theirs.mean()).norm()
    return not distance <= most  # true for NaN as well


@contextmanager
def _input_shapes(model: Any) -> Iterator[dict[str, set[tuple[int, ...]]]]:
    """Record the number of dimensions and the first two sizes of each linear layer's inputs."""
    shapes: dict[str, set[tuple[int, ...]]] = {}

    def add_hook(name: str, module: torch.nn.Module) -> Any:
        def record(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0]
            shapes.setdefault(name, set()).add((x.ndim, *x.shape[:2]))

        return module.register_forward_pre_hook(record)

    hooks = [
        add_hook(name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    try:
        yield shapes
    finally:
        for hook in hooks:
            hook.remove()


def _rotation_limits(config: Any) -> list[int]:
    """Return the lengths at which longrope changes the rotary frequencies of a whole pass."""
    rotation = getattr(config, "rope_parameters", None) or {}
    kinds = [rotation, *(kind for kind in rotation.values() if isinstance(kind, dict))]
    return [
        kind["original_max_position_embeddings"]
        for kind in kinds
        if kind.get("rope_type") == "longrope"
    ]
