"""The compiled kernels against torch's, in both number formats."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.errors import EngineError
from models.native.processor import Processor, processor
from models.policy import kernels as kernels_module
from models.policy.attention import Heads
from models.policy.batch import collate
from models.policy.kernels import TorchKernels, make_kernels
from models.policy.native import bindings
from models.policy.native.bindings import NativeKernels
from models.policy.packing import pack
from models.types import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.policy.packing import Packed

TORCH = TorchKernels()
FORMATS = [torch.float32, torch.bfloat16]


@pytest.fixture(scope="module")
def native(build_dir: Path) -> NativeKernels:
    return NativeKernels(build_dir)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _random(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(dtype)


def _assert_close(ours: torch.Tensor, exact: torch.Tensor) -> None:
    """``exact`` is fp32; in bfloat16 a result may be half a step of its last bit off, or a little
    more where it was rounded on the way."""
    step = 2.0**-7 if ours.dtype == torch.bfloat16 else 1e-5
    assert ours.dtype in FORMATS
    assert exact.dtype == torch.float32
    assert torch.allclose(ours.float(), exact, rtol=step, atol=step * exact.abs().max().item())


@pytest.mark.parametrize("dtype", FORMATS)
def test_norms(native: NativeKernels, dtype: torch.dtype) -> None:
    x, weight, dy = _random(dtype, 5, 48), _random(dtype, 48), _random(dtype, 5, 80)[:, :48]
    dresidual = _random(dtype, 5, 48)
    room, exact = torch.full((5, 64), 7.0, dtype=dtype), torch.empty(5, 48)
    native.rms_norm(x, weight, 1e-5, room[:, :48])
    TORCH.rms_norm(x.float(), weight.float(), 1e-5, exact)
    _assert_close(room[:, :48], exact)
    assert (room[:, 48:] == 7).all()
    for added in (None, dresidual):
        ours = native.rms_norm_backward(x, weight, dy, 1e-5, added)
        _assert_close(
            ours,
            TORCH.rms_norm_backward(
                x.float(),
                weight.float(),
                dy.float(),
                1e-5,
                None if added is None else added.float(),
            ),
        )


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("inverse", [False, True])
def test_rotations(native: NativeKernels, dtype: torch.dtype, inverse: bool) -> None:
    columns, angles = _random(dtype, 6, 3 * 16 + 5), torch.randn(6, 8)
    ours, exact = columns.clone(), columns.float().clone()
    native.rotate(ours, angles.cos(), angles.sin(), 3, inverse=inverse)
    TORCH.rotate(exact, angles.cos(), angles.sin(), 3, inverse=inverse)
    _assert_close(ours, exact)
    assert torch.equal(ours[:, 48:], columns[:, 48:])
    native.rotate(ours, angles.cos(), angles.sin(), 3, inverse=not inverse)
    _assert_close(ours, columns.float())


@pytest.mark.parametrize("dtype", FORMATS)
def test_gates(native: NativeKernels, dtype: torch.dtype) -> None:
    gates, dactivated = _random(dtype, 5, 64) * 8, _random(dtype, 5, 40)[:, :32]
    gates[0, 0], gates[0, 1] = -200.0, 200.0
    room, exact = torch.zeros(5, 48, dtype=dtype), torch.empty(5, 32)
    native.swiglu(gates, room[:, :32])
    TORCH.swiglu(gates.float(), exact)
    _assert_close(room[:, :32], exact)
    again = torch.zeros_like(room)
    ours = native.swiglu_backward(gates, dactivated, again[:, :32])
    wanted = TORCH.swiglu_backward(gates.float(), dactivated.float(), exact)
    _assert_close(ours, wanted)
    assert torch.equal(again, room)


def _packed(rows: list[tuple[int, ...]]) -> Packed:
    samples = [
        Sample("x", "u", row[:1], row[1:], (-1.0,) * (len(row) - 1), 1.0, 1.0, "base", ended=True)
        for row in rows
    ]
    return pack(collate(samples, range(len(samples)), device="cpu"))


BEGINNING = tuple(range(100, 141))
ROWS = [
    (*BEGINNING, *range(30)),  # 71 tokens: several tiles and panels
    (*BEGINNING, 5, 6, 7),  # begins like the first
    (1, 2, 3, 4, 5),
    (1, 2, 3),  # all of it is another row's
    tuple(range(200, 213)),
]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("size", [16, 64, 80])
def test_attention_over_rows_that_begin_alike(
    native: NativeKernels, dtype: torch.dtype, size: int
) -> None:
    packed, heads = _packed(ROWS), Heads(kv=2, group=3, size=size, scale=size**-0.5)
    assert packed.own_start.tolist() == [0, 41, 0, 3, 0]
    count = len(packed.ids)
    qkv = _random(dtype, count, heads.query_columns + 2 * heads.key_columns)
    dout = _random(dtype, count, heads.query_columns + 8)[:, : heads.query_columns]
    room, exact = (
        torch.zeros(count, heads.query_columns + 32, dtype=dtype),
        torch.empty(count, heads.query_columns),
    )
    native.attend(qkv, packed, heads, room[:, : heads.query_columns])
    TORCH.attend(qkv.float(), packed, heads, exact)
    _assert_close(room[:, : heads.query_columns], exact)
    assert not room[:, heads.query_columns :].any()
    ours = native.attend_backward(qkv, dout, packed, heads)
    _assert_close(ours, TORCH.attend_backward(qkv.float(), dout.float(), packed, heads))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("tokens", [64, 75])
@pytest.mark.parametrize("with_delta", [True, False])
def test_distributions(
    native: NativeKernels, dtype: torch.dtype, tokens: int, with_delta: bool
) -> None:
    logits, temperature = _random(dtype, 4, tokens) * 5, torch.tensor([1.0, 0.5, 2.0, 0.7])
    delta = _random(dtype, 4, tokens) if with_delta else None
    exact_delta = None if delta is None else delta.float()
    chosen = torch.tensor([0, tokens - 1, 3, 40])
    ours = native.logprobs_and_kl(logits, delta, temperature, chosen)
    exact = TORCH.logprobs_and_kl(logits.float(), exact_delta, temperature, chosen)
    for a, b in zip(ours[:2], exact[:2], strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
    gradients = torch.randn(4), torch.randn(4)
    wanted = TORCH.logprobs_and_kl_backward(
        logits.float(), exact_delta, temperature, chosen, gradients, exact[2]
    )
    found = native.logprobs_and_kl_backward(logits, delta, temperature, chosen, gradients, ours[2])
    _assert_close(found, wanted)


FLOAT16 = pytest.param(
    "avx512_fp16",
    marks=pytest.mark.skipif(not processor().multiplies_float16, reason="No fp16 products here"),
)


@pytest.fixture(params=["", FLOAT16], ids=["as fp32", "as fp16"])
def converting(
    request: pytest.FixtureRequest, build_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[NativeKernels]:
    """Kernels for one thread of a processor that multiplies other numbers faster."""
    flags = frozenset({"fpu", request.param})
    monkeypatch.setattr(bindings, "processor", lambda: Processor(flags=flags))
    monkeypatch.setattr(bindings, "multiply", None)  # torch's is not asked
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield NativeKernels(build_dir)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("rows", [1, 12, 29])
@pytest.mark.parametrize(
    ("inputs", "columns"),
    [(7, 5), (64, 32), (83, 16), (48, 57), (96, 128), (1024, 33), (2500, 104)],
    ids=["few", "a panel", "half of one", "and a half", "two", "a block", "several blocks"],
)
def test_converted_products(
    converting: NativeKernels, rows: int, inputs: int, columns: int, request: pytest.FixtureRequest
) -> None:
    a = _random(torch.bfloat16, rows, inputs + 3)[:, :inputs]
    straight = _random(torch.bfloat16, inputs, columns + 5)[:, :columns]
    transposed = _random(torch.bfloat16, columns, inputs + 1)[:, :inputs].T
    by_fp16 = request.node.callspec.params["converting"] == "avx512_fp16"
    for b in (straight, transposed):
        exact = a.double() @ b.double()
        # half of the last of eight bits, and seven standard deviations of what the sums are off by
        near = exact.abs() * 2**-8 + (8e-3 if by_fp16 else 1e-5) * inputs**0.5
        room = torch.full((rows, columns + 2), 7.0, dtype=torch.bfloat16)
        found = converting.multiply(a, b, room[:, 1:-1])
        assert found.dtype == torch.bfloat16
        assert ((found.double() - exact).abs() <= near).all()
        # to round the result alone is 1.7e-3 off
        assert (found.double() - exact).norm() <= (3e-3 if by_fp16 else 2.2e-3) * exact.norm()
        assert torch.equal(converting.multiply(a, b), found)
        converting.add_product(a, b, found)
        assert ((found.double() - 2 * exact).abs() <= 4 * near).all()
        assert (room[:, [0, -1]] == 7).all()


def test_converted_products_of_any_size(converting: NativeKernels) -> None:
    a, b = _random(torch.bfloat16, 5, 70), _random(torch.bfloat16, 70, 40)
    sizes = torch.tensor([2.0**-90, 2.0**-30, 0.0, 1.0, 2.0**80], dtype=torch.bfloat16)
    a *= sizes[:, None]
    a[:, 0] *= 1000  # of a row, one that is far larger than the others
    for size in (2.0**-20, 1.0, 2.0**30):
        exact = a.double() @ (b * size).double()
        found = converting.multiply(a, b * size).double()
        assert ((found - exact).norm(dim=1) <= 3e-3 * exact.norm(dim=1)).all()


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_stays_so(converting: NativeKernels, value: float) -> None:
    a, b = _random(torch.bfloat16, 3, 70), _random(torch.bfloat16, 70, 40)
    a[1, 65] = value
    assert converting.multiply(a, b).isfinite().all(dim=1).tolist() == [True, False, True]
    b[3, 7] = value
    assert not converting.multiply(a, b)[:, 7].isfinite().any()


def test_torch_multiplies_where_it_is_faster(
    converting: NativeKernels, build_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(bindings, "multiply", lambda *given: asked.append(given))
    a, b = _random(torch.bfloat16, 3, 4), _random(torch.bfloat16, 4, 5)
    converting.multiply(a.float(), b.float())
    assert len(asked) == 1
    flags = frozenset({"amx_bf16"})
    monkeypatch.setattr(bindings, "processor", lambda: Processor(flags=flags))
    with_tiles = NativeKernels(build_dir)
    with_tiles.multiply(a, b)
    assert len(asked) == 2
    assert with_tiles.padded
    assert not converting.padded
    torch.set_num_threads(2)  # one thread's product is slower than torch's by two
    converting.multiply(a, b)
    assert len(asked) == 3
    out = torch.zeros(3, 5, dtype=torch.bfloat16)
    converting.add_product(a, b, out)
    assert torch.allclose(out, a @ b, rtol=2**-7)


def _model(**changes: int) -> LlamaForCausalLM:
    sizes = {"vocab_size": 60, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(**(sizes | {"num_attention_heads": 4} | changes)))


def test_torch_computes_where_nothing_can_be_compiled(
    build_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(make_kernels(_model(), build_dir), NativeKernels)
    assert isinstance(make_kernels(_model(intermediate_size=90), build_dir), TorchKernels)
    assert isinstance(make_kernels(_model(), None), TorchKernels)

    def fail(_: Path) -> None:
        raise EngineError("No compiler.")

    monkeypatch.setattr(kernels_module, "NativeKernels", fail)
    with caplog.at_level(logging.WARNING):
        assert isinstance(make_kernels(_model(), build_dir), TorchKernels)
    assert "slower. No compiler." in caplog.text
