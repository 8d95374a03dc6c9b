"""A tiny random Llama with the real tokenizer, for tests of the real engine or learner."""

from __future__ import annotations

from pathlib import Path

CHECKOUT_DATA = Path(__file__).parents[3] / "var"
"""The checkout's own data folder: the base is imported there once, as `make run` does."""


def make_model(folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from models.base.loading import ensure_base
    from models.settings import ModelSettings

    imported = ensure_base(ModelSettings(data_dir=CHECKOUT_DATA), print)
    tokenizer = AutoTokenizer.from_pretrained(imported)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
