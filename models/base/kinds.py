"""Why a base cannot be served, from its files alone; each reason says what to choose instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def refusal(source: str, config: Any) -> str | None:
    """Return why a model of this configuration cannot be served, as a sentence; None if it can.

    Args:
        source: A folder or a hub id.
        config: Its configuration, as transformers reads it.
    """
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = _method(quantised)
        return (
            f"Its weights are quantised ({method}), and adapters are learned over 16 or 32 "
            "bits: choose the model without quantisation."
        )
    if getattr(config, "is_encoder_decoder", False):
        return "It has an encoder and a decoder, as T5 has: choose a causal language model."
    if not getattr(config, "num_attention_heads", None):
        return (
            f"It is a {config.model_type} without attention, and its state cannot be kept by "
            "tokens: choose a transformer."
        )
    return _files(Path(source)) if Path(source).is_dir() else None


def _method(quantised: Any) -> str:
    method = (
        quantised.get("quant_method")
        if isinstance(quantised, dict)
        else getattr(quantised, "quant_method", None)
    )
    return str(getattr(method, "value", method or "unknown"))


def _files(folder: Path) -> str | None:
    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")):
            return (
                "Its weights are .bin files, which can run code: load it with transformers where "
                "you trust it, and save it again with save_pretrained, which writes safetensors."
            )
        return "It has no weights in safetensors format: copy the whole model folder."
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return "It has no tokenizer: copy tokenizer.json and tokenizer_config.json beside it."
    return None


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
