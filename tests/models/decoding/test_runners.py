from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig

from models.decoding.runners import make_cache
from models.errors import EngineError
from models.settings import ModelSettings

# keys and values of 2 layers, 2 heads of 16 numbers of 4 bytes: 512 bytes a token
CONFIG = LlamaConfig(
    vocab_size=16,
    hidden_size=64,
    intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=4096,
)


@pytest.mark.parametrize(
    ("context", "kv_memory_mib", "rows"),
    [(128, 0, 32), (128, 1, 16), (128, 100, 32), (1024, 1, 2), (2048, 1, 1)],
)
def test_rows_are_as_many_as_the_memory_holds(context: int, kv_memory_mib: int, rows: int) -> None:
    settings = ModelSettings(context_length=context, kv_memory_mib=kv_memory_mib, max_rows=32)
    cache = make_cache(AutoModelForCausalLM.from_config(CONFIG), settings)
    assert cache.keys.shape == (2, rows, 2, context, 16)


def test_memory_that_does_not_hold_one_row_is_refused_with_the_numbers() -> None:
    settings = ModelSettings(context_length=4096, kv_memory_mib=1)
    with pytest.raises(EngineError, match=r"4096 tokens takes 2\.0 MiB .* the 1 MiB allowed"):
        make_cache(AutoModelForCausalLM.from_config(CONFIG), settings)


def test_no_row_is_longer_than_the_model_allows() -> None:
    settings = ModelSettings(context_length=8192, max_rows=1)
    assert make_cache(AutoModelForCausalLM.from_config(CONFIG), settings).context == 4096
