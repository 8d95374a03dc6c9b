"""The compiled step against transformers' forward pass and against its own other batches."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from models.decoding.kv import SlotCache
from models.decoding.lora import Adapter, Factors
from models.decoding.native.runner import NativeRunner
from models.decoding.runner import Segment
from models.decoding.sampler import Draw
from models.errors import AdapterError, EngineError
from models.native import build
from models.native.llama import unsupported
from models.native.processor import processor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

VOCABULARY = 1000
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 104,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "llama with biases": lambda: LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "llama, tied": lambda: LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama, longer positions": lambda: LlamaConfig(
        **SIZES, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    ),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=None),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES),
}
IDS = [5, 9, 11, 400, 401, 999, 0, 77, 123, 31, 8, 600, 601, 602, 3, 2, 1]
GREEDY = Draw(temperature=0.0, top_p=1.0, top_k=0, top_logprobs=0, uniform=0.0)


def _model(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.normal_(1.0 if "norm" in name else 0.0, 0.3)
    return model.eval()


@pytest.fixture(params=["pairs", "widened"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bfloat16 products be of pairs, and of widened numbers, whatever is faster here."""
    this = processor()
    flags = {"pairs": this.flags | {"avx512_bf16"}, "widened": frozenset[str]()}[request.param]
    other = replace(this, vendor="", flags=flags)
    monkeypatch.setattr(build, "processor", lambda: other)


@pytest.fixture
def make_runner(build_dir: Path) -> Callable[..., NativeRunner]:
    def make(model: Any, threads: int = 2, slots: int = 6) -> NativeRunner:
        cache = SlotCache.for_model(
            model.config, slots=slots, context=64, dtype=model.dtype, device="cpu"
        )
        return NativeRunner(model, cache, threads=threads, build_dir=build_dir)

    return make


def _adapter(model: Any, seed: int, rank: int = 3) -> Adapter:
    random = torch.Generator().manual_seed(seed)
    return {
        name: Factors(
            a=torch.randn(rank, module.in_features, generator=random) * 0.2,
            b=torch.randn(module.out_features, rank, generator=random) * 0.2,
        )
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    }


def _expected(model: Any, ids: Sequence[int], adapter: Adapter | None = None) -> torch.Tensor:
    """Return the log-probs after the last id by transformers' forward, ``[V]``."""
    hooks = []
    for name, factors in (adapter or {}).items():

        def add(_: Any, args: Any, out: torch.Tensor, f: Factors = factors) -> torch.Tensor:
            return out + args[0] @ f.a.T @ f.b.T

        hooks.append(model.get_submodule(name).register_forward_hook(add))
    with torch.no_grad():
        logits = model(torch.tensor([list(ids)])).logits[0, -1]
    for hook in hooks:
        hook.remove()
    return logits.float().log_softmax(-1)


def _logprobs(runner: NativeRunner, rows: int) -> torch.Tensor:
    return runner.logits[:rows].log_softmax(-1)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_layer_type_gives_what_transformers_gives(
    name: str, make_runner: Callable[..., NativeRunner]
) -> None:
    model = _model(CONFIGS[name]())
    adapter = _adapter(model, 1)
    runner = make_runner(model)
    prepared = {"v": runner.prepare(adapter)}
    runner.run([Segment(0, 0, IDS, None, GREEDY), Segment(1, 0, IDS[:7], "v", GREEDY)], prepared)
    found = _logprobs(runner, 2)
    torch.testing.assert_close(found[0], _expected(model, IDS), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[1], _expected(model, IDS[:7], adapter), atol=1e-4, rtol=0)


@pytest.mark.usefixtures("products")
def test_bfloat16_stays_near_fp32(make_runner: Callable[..., NativeRunner]) -> None:
    exact = _model(CONFIGS["llama"]())
    rounded = _model(CONFIGS["llama"](), torch.bfloat16)
    # Where the weights are the same numbers, what differs is the arithmetic.
    exact.load_state_dict({k: v.float() for k, v in rounded.state_dict().items()})
    adapter = _adapter(exact, 1)
    runner = make_runner(rounded)
    runner.run([Segment(0, 0, IDS, "v", GREEDY)], {"v": runner.prepare(adapter)})
    error = (_logprobs(runner, 1)[0] - _expected(exact, IDS, adapter)).abs()
    spread = _expected(exact, IDS, adapter).std()
    assert error.mean() < 0.03 * spread


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_the_same_number_for_number_whatever_else_is_in_the_batch(
    dtype: torch.dtype, make_runner: Callable[..., NativeRunner]
) -> None:
    model = _model(CONFIGS["llama"](), dtype)
    adapters = [_adapter(model, seed) for seed in (1, 2)]
    alone = make_runner(model, threads=1)
    prepared = {f"v{n}": alone.prepare(a) for n, a in enumerate(adapters)}
    alone.run([Segment(0, 0, IDS, "v1", GREEDY)], prepared)
    expected = alone.logits[0].clone()

    crowded = make_runner(model, threads=3)
    prepared = {f"v{n}": crowded.prepare(a) for n, a in enumerate(adapters)}
    # Prefilled in two chunks, the second beside rows of every other version.
    crowded.run([Segment(3, 0, IDS[:6], "v1", None)], prepared)
    others = [
        Segment(0, 0, [7], "v0", GREEDY),
        Segment(1, 0, [8, 9], None, GREEDY),
        Segment(2, 0, IDS, "v1", GREEDY),
    ]
    crowded.run([*others, Segment(3, 6, IDS[6:], "v1", GREEDY)], prepared)
    assert torch.equal(crowded.logits[2], expected)
    assert torch.equal(crowded.logits[3], expected)


def test_tokens_come_back_in_the_order_of_their_segments(
    make_runner: Callable[..., NativeRunner],
) -> None:
    model = _model(CONFIGS["llama"]())
    runner = make_runner(model)
    prepared = {v: runner.prepare(_adapter(model, seed)) for seed, v in enumerate("ba")}
    segments = [
        Segment(0, 0, IDS[:3], "b", GREEDY),
        Segment(1, 0, IDS[:4], None, GREEDY),
        Segment(2, 0, IDS[:5], "a", None),
        Segment(3, 0, IDS[:6], "a", GREEDY),
    ]
    together = runner.run(segments, prepared)
    assert together[2] is None
    for segment, token in zip(segments, together, strict=True):
        if segment.draw is not None:
            assert runner.run([segment], prepared) == [token]


def test_draws_follow_the_distribution_and_report_its_log_probs(
    make_runner: Callable[..., NativeRunner],
) -> None:
    model = _model(CONFIGS["llama"]())
    runner = make_runner(model)
    temperature = 0.7
    expected = (_expected(model, IDS) / temperature).log_softmax(-1)
    bounds = expected.exp().double().cumsum(0)
    for uniform in (0.0, 0.1, 0.37, 0.5, 0.9, 0.9999):
        draw = Draw(temperature, 1.0, top_k=0, top_logprobs=0, uniform=uniform)
        (token,) = runner.run([Segment(0, 0, IDS, None, draw)], {})
        assert token is not None
        # The first token whose cumulative mass passes the uniform number.
        at = int(torch.searchsorted(bounds, torch.tensor(uniform).double(), right=True))
        assert abs(token.id - at) <= 1  # rounding may move a bound by a hair
        assert token.logprob == pytest.approx(expected[token.id].item(), abs=1e-4)


def test_truncation_and_alternatives_are_those_of_the_sampler(
    make_runner: Callable[..., NativeRunner],
) -> None:
    model = _model(CONFIGS["llama"]())
    runner = make_runner(model)
    expected = _expected(model, IDS)
    best = expected.topk(2).indices.tolist()
    draw = Draw(1.0, 1.0, top_k=2, top_logprobs=2, uniform=0.999)
    (token,) = runner.run([Segment(0, 0, IDS, None, draw)], {})
    assert token is not None
    assert token.id in best
    assert [t.token_id for t in token.top] == best
    kept = expected[best].log_softmax(0).tolist()
    assert [t.logprob for t in token.top] == pytest.approx(kept, abs=1e-4)


def test_an_adapter_of_some_layers_leaves_the_others_alone(
    make_runner: Callable[..., NativeRunner],
) -> None:
    model = _model(CONFIGS["llama"]())
    whole = _adapter(model, 1)
    some = {n: f for n, f in whole.items() if n.endswith(("v_proj", "up_proj", "down_proj"))}
    runner = make_runner(model)
    runner.run([Segment(0, 0, IDS, "v", GREEDY)], {"v": runner.prepare(some)})
    torch.testing.assert_close(
        _logprobs(runner, 1)[0], _expected(model, IDS, some), atol=1e-4, rtol=0
    )


def test_an_adapter_for_another_model_is_refused(make_runner: Callable[..., NativeRunner]) -> None:
    model = _model(CONFIGS["llama"]())
    runner = make_runner(model)
    adapter = _adapter(model, 1)
    name, factors = next(iter(adapter.items()))
    with pytest.raises(AdapterError, match="lacks"):
        runner.prepare({"model.layers.9.mlp.up_proj": factors})
    with pytest.raises(AdapterError, match="wrong shape"):
        runner.prepare({name: Factors(a=factors.a[:, 1:], b=factors.b)})


def test_weights_that_give_no_numbers_are_told(make_runner: Callable[..., NativeRunner]) -> None:
    model = _model(CONFIGS["llama"]())
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(EngineError, match="not a number"):
        make_runner(model).run([Segment(0, 0, IDS, None, GREEDY)], {})


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (lambda: MistralConfig(**SIZES, sliding_window=8), "sliding"),
        (lambda: LlamaConfig(**SIZES, hidden_act="gelu"), "activation"),
        (lambda: LlamaConfig(**{**SIZES, "head_dim": 24}), "heads of 24"),
        (lambda: Gemma2Config(**SIZES), "gemma2"),
    ],
)
def test_what_it_cannot_run_is_named(config: Callable[[], PreTrainedConfig], why: str) -> None:
    assert why in str(unsupported(_model(config())))


def test_all_numbers_of_rows_and_threads_agree(make_runner: Callable[..., NativeRunner]) -> None:
    model = _model(CONFIGS["llama"]())
    for rows, threads in itertools.product((1, 11, 12, 13, 25, 65), (1, 2)):
        runner = make_runner(model, threads=threads, slots=rows)
        segments = [Segment(row, 0, [row], None, GREEDY) for row in range(rows)]
        runner.run(segments, {})
        single = make_runner(model, threads=1, slots=1)
        single.run([Segment(0, 0, [rows - 1], None, GREEDY)], {})
        assert torch.equal(runner.logits[rows - 1], single.logits[0])
