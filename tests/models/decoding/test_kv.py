from __future__ import annotations

import gc
import re
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    DeepseekV3Config,
    FalconConfig,
    Gemma3nTextConfig,
    Gemma4TextConfig,
    GPT2Config,
    GPTBigCodeConfig,
    LlamaConfig,
    MambaConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from models.decoding.kv import CacheSlice, SlotCache
from models.decoding.scheduler import KvCopy
from models.errors import EngineError

LAYERS, SLOTS, HEADS, CONTEXT, SIZE = 3, 4, 2, 10, 5


def _cache(*, dtype: torch.dtype = torch.float32) -> SlotCache:
    return SlotCache(
        layers=LAYERS,
        slots=SLOTS,
        context=CONTEXT,
        kv_heads=HEADS,
        head_size=SIZE,
        dtype=dtype,
        device="cpu",
    )


def _filled() -> SlotCache:
    """Return a cache in which every number is another one."""
    cache = _cache()
    count = cache.keys.numel()
    cache.keys.copy_(torch.arange(count).view(cache.keys.shape))
    cache.values.copy_(torch.arange(count, 2 * count).view(cache.values.shape))
    return cache


def test_each_layer_is_a_view_of_one_contiguous_memory() -> None:
    cache = _filled()
    for memory in (cache.keys, cache.values):
        assert memory.shape == (LAYERS, SLOTS, HEADS, CONTEXT, SIZE)
        assert memory.is_contiguous()
    assert cache.keys.data_ptr() % 64 == 0
    assert len(cache) == LAYERS
    for number, layer in enumerate(cache.layers):
        assert layer.keys.data_ptr() == cache.keys[number].data_ptr()
        assert layer.values.data_ptr() == cache.values[number].data_ptr()
        assert layer.keys.shape == layer.values.shape == (SLOTS, HEADS, CONTEXT, SIZE)
        assert layer.get_max_length() == cache.context == CONTEXT


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_the_bytes_of_a_token_make_up_the_memory(dtype: torch.dtype, size: int) -> None:
    cache = _cache(dtype=dtype)
    assert cache.keys.dtype == dtype
    assert cache.bytes_per_token == 2 * LAYERS * HEADS * SIZE * size
    assert cache.keys.nbytes + cache.values.nbytes == SLOTS * CONTEXT * cache.bytes_per_token
    assert not cache.keys.any()
    assert not cache.values.any()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's page counts")
def test_memory_costs_nothing_until_it_is_written_to() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    cache = SlotCache(
        layers=2,
        slots=64,
        context=4096,
        kv_heads=2,
        head_size=64,
        dtype=torch.float32,
        device="cpu",
    )
    assert cache.bytes_per_token * 64 * 4096 == 2**29
    assert resident() - before < 2**26


def test_memory_goes_with_its_last_user() -> None:
    gc.disable()  # which would free it, too, at some later time
    try:
        cache = weakref.ref(_cache())
        assert cache() is None
    finally:
        gc.enable()


def test_a_decode_step_writes_each_row_at_its_own_position() -> None:
    cache = _cache()
    keys, values = torch.randn(2, 2, HEADS, 1, SIZE)
    cache.current = CacheSlice(first=1, positions=torch.tensor([[3], [6]]), length=7)
    seen_keys, seen_values = cache.update(keys, values, 2)
    for seen, new in ((seen_keys, keys), (seen_values, values)):
        expected = torch.zeros(2, HEADS, 7, SIZE)
        expected[0, :, 3] = new[0, :, 0]
        expected[1, :, 6] = new[1, :, 0]
        assert torch.equal(seen, expected)
    assert torch.equal(cache.keys[2, 1:3, :, :7], seen_keys)
    assert torch.equal(cache.values[2, 1:3, :, :7], seen_values)
    assert int(cache.keys.count_nonzero()) == keys.numel()
    assert cache.get_seq_length(2) == 6


def test_a_chunk_is_written_before_the_end_of_its_window() -> None:
    cache = _filled()
    old = cache.read_block(2, 0, CONTEXT)
    keys, values = torch.randn(2, 1, HEADS, 3, SIZE)
    cache.current = CacheSlice(first=2, positions=torch.tensor([[4, 5, 6]]), length=7)
    seen_keys, seen_values = cache.update(keys, values, 0)
    assert torch.equal(seen_keys, torch.cat([old[0, :1, :, :4], keys], 2))
    assert torch.equal(seen_values, torch.cat([old[1, :1, :, :4], values], 2))
    assert torch.equal(cache.read_block(2, 7, 3), old[:, :, :, 7:])


@pytest.mark.parametrize(("heads", "size"), [(1, SIZE), (HEADS, 1), (HEADS + 1, SIZE)])
@pytest.mark.parametrize("odd", ["keys", "values"])
def test_a_layer_of_another_shape_is_refused(heads: int, size: int, odd: str) -> None:
    cache = _cache()
    cache.current = CacheSlice(first=0, positions=torch.tensor([[0]]), length=1)
    states = {name: torch.zeros(1, HEADS, 1, SIZE) for name in ("keys", "values")}
    states[odd] = torch.zeros(1, heads, 1, size)
    with pytest.raises(EngineError, match=re.escape(f"({heads}, {size}) instead of (2, 5)")):
        cache.update(states["keys"], states["values"], 0)


def test_a_window_has_to_be_set() -> None:
    with pytest.raises(EngineError, match="No cache slice"):
        _cache().get_seq_length(0)


def test_a_move_copies_the_beginning_of_a_slot_and_nothing_else() -> None:
    cache, old = _filled(), _filled()
    cache.move(KvCopy(source=3, target=0, length=4))
    for new, before in ((cache.keys, old.keys), (cache.values, old.values)):
        assert torch.equal(new[:, 0, :, :4], before[:, 3, :, :4])
        assert torch.equal(new[:, 0, :, 4:], before[:, 0, :, 4:])
        assert torch.equal(new[:, 1:], before[:, 1:])


def test_a_block_holds_keys_then_values_of_all_layers() -> None:
    cache = _filled()
    block = cache.read_block(2, 3, 4)
    assert block.shape == (2, LAYERS, HEADS, 4, SIZE)
    assert block.is_contiguous()
    assert block.nbytes == 4 * cache.bytes_per_token
    for layer in range(LAYERS):
        assert torch.equal(block[0, layer], cache.layers[layer].keys[2, :, 3:7])
        assert torch.equal(block[1, layer], cache.layers[layer].values[2, :, 3:7])


def test_a_block_is_a_copy() -> None:
    cache = _filled()
    block = cache.read_block(0, 0, 2)
    kept = block.clone()
    cache.keys.zero_()
    cache.values.zero_()
    assert torch.equal(block, kept)


@settings(deadline=None)
@given(
    source=st.integers(0, SLOTS - 1),
    target=st.integers(0, SLOTS - 1),
    read_at=st.integers(0, CONTEXT - 1),
    write_at=st.integers(0, CONTEXT - 1),
    data=st.data(),
)
def test_a_block_comes_back_where_it_is_written_and_nowhere_else(
    source: int, target: int, read_at: int, write_at: int, data: st.DataObject
) -> None:
    length = data.draw(st.integers(1, CONTEXT - max(read_at, write_at)))
    cache, expected = _filled(), _filled()
    block = cache.read_block(source, read_at, length)
    cache.write_block(target, write_at, block)
    expected.keys[:, target, :, write_at : write_at + length] = block[0]
    expected.values[:, target, :, write_at : write_at + length] = block[1]
    assert torch.equal(cache.keys, expected.keys)
    assert torch.equal(cache.values, expected.values)
    assert torch.equal(cache.read_block(target, write_at, length), block)


SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("config", "heads", "size"),
    [
        (LlamaConfig(**SIZES, num_key_value_heads=2), 2, 16),
        (LlamaConfig(**SIZES, num_key_value_heads=None), 4, 16),
        (Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=32), 2, 32),
        (GPT2Config(n_embd=64, n_layer=3, n_head=4), 4, 16),
        (GPTBigCodeConfig(n_embd=64, n_layer=3, n_head=4, multi_query=True), 1, 16),
        (FalconConfig(**SIZES, multi_query=True), 1, 16),
        # Falcon's new form repeats its heads before it hands them to the cache.
        (FalconConfig(**SIZES, new_decoder_architecture=True, num_kv_heads=2), 4, 16),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PreTrainedConfig) else None,
)
def test_a_model_gets_memory_of_its_own_shape(
    config: PreTrainedConfig, heads: int, size: int
) -> None:
    cache = SlotCache.for_model(config, slots=2, context=8, dtype=torch.bfloat16, device="cpu")
    assert cache.keys.shape == (3, 2, heads, 8, size)
    assert cache.keys.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Gemma4TextConfig(num_kv_shared_layers=0), "its layers differ in shape"),
        (Gemma3nTextConfig(), "share their keys and values"),
        (DeepseekV3Config(), "its keys and values differ in size"),
        (MambaConfig(), "layers of the kinds \\['linear_attention'\\]"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PreTrainedConfig) else None,
)
def test_a_model_whose_layers_differ_is_refused(config: PreTrainedConfig, reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        SlotCache.for_model(config, slots=2, context=8, dtype=torch.float32, device="cpu")
