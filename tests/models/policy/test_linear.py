from __future__ import annotations

import pytest
import torch

from models.policy.gradients import MasterGradients
from models.policy.kernels import TorchKernels
from models.policy.linear import LowRankLinear, LowRankPair


class Unpadded(TorchKernels):
    padded = False


@pytest.mark.parametrize("kernels", [TorchKernels(), Unpadded()], ids=["padded", "unpadded"])
@pytest.mark.parametrize("bias", [False, True])
def test_joined_products_and_gradients_are_those_of_layers_apart(
    bias: bool, kernels: TorchKernels
) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, out, bias=bias) for out in (5, 3)]
    pairs = [
        LowRankPair(torch.nn.Parameter(torch.randn(2, 6)), torch.nn.Parameter(torch.randn(out, 2)))
        for out in (5, 3)
    ]
    x, dy = torch.randn(7, 6, requires_grad=True), torch.randn(7, 8)
    parts = [
        layer(x) + 0.5 * (x @ pair.a.T) @ pair.b.T
        for layer, pair in zip(layers, pairs, strict=True)
    ]
    expected = torch.cat(parts, dim=1)
    masters = [m for pair in pairs for m in (pair.a, pair.b)]
    wanted = torch.autograd.grad(expected, [x, *masters], dy)
    with torch.no_grad():
        joined = LowRankLinear(layers, pairs, kernels, scale=0.5)
        joined.refresh()
        room = joined.room(7)
        room[:, :6] = x
        assert torch.allclose(joined.forward(room, adapted=True), expected, atol=1e-5)
        dx = joined.backward(room, dy, MasterGradients())
        joined.backward(room, dy, MasterGradients())  # gradients are added up
        plain = joined.forward(room, adapted=False)
    assert torch.allclose(dx, wanted[0], atol=1e-5)
    for master, gradient in zip(masters, wanted[1:], strict=True):
        assert torch.allclose(master.grad, 2 * gradient, atol=1e-4)  # type: ignore[arg-type]
    # the layers' own weights are views now, and still the same
    assert torch.allclose(torch.cat([layer(x) for layer in layers], dim=1), plain, atol=1e-5)
