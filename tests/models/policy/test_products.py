from __future__ import annotations

import pytest
import torch

from models.native.processor import Processor
from models.policy import products
from models.policy.products import multiply


@pytest.fixture(params=["slow", "fast"])
def bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processor have slow and fast products of bfloat16 numbers, one after the other."""
    flags = {"slow": {"avx2"}, "fast": {"avx512_bf16"}}[request.param]
    monkeypatch.setattr(products, "processor", lambda: Processor(flags=frozenset(flags)))


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(
    ("n", "k", "m"),
    [(3, 40, 7), (5, 33, 5000), (4, 4999, 6)],
    ids=["small", "many columns", "many numbers in a sum"],
)
def test_bfloat16_products_are_rounded_once(n: int, k: int, m: int) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(n, k).bfloat16(), torch.randn(m, k).bfloat16()
    exact = x.double() @ w.double().T
    # half of the last of eight bits, and what sums in fp32 may be off by
    near = exact.abs() * 2**-8 + 1e-5 * k**0.5
    room = torch.empty(n, m + 3, dtype=torch.bfloat16)[:, :m]
    wider = torch.randn(m, k + 8).bfloat16()
    wider[:, :k] = w
    for found in (
        multiply(x, w.T),
        multiply(x, w.T.contiguous()),
        multiply(x, wider[:, :k].T),
        multiply(x, w.T, out=room),
    ):
        assert found.dtype == torch.bfloat16
        assert ((found.double() - exact).abs() <= near).all()
    assert multiply(x, w.T, out=room) is room


@pytest.mark.usefixtures("bfloat16")
def test_fp32_products_stay_fp32() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(3, 4000), torch.randn(4000, 5)
    assert torch.equal(multiply(x, w), x @ w)
