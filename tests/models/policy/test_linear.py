from __future__ import annotations

import pytest
import torch

from models.policy.gradients import MasterGradients
from models.policy.kernels import TorchKernels
from models.policy.linear import LoraParameters, LowRankLinear


class Unpadded(TorchKernels):
    padded = False


@pytest.mark.parametrize("kernels", [TorchKernels(), Unpadded()], ids=["padded", "unpadded"])
@pytest.mark.parametrize("bias", [False, True])
def test_joined_products_and_gradients_are_those_of_layers_apart(
    bias: bool, kernels: TorchKernels
) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, out, bias=bias) for out in (5, 3)]
    loras = [
        LoraParameters(
            torch.nn.Parameter(torch.randn(2, 6)), torch.nn.Parameter(torch.randn(out, 2))
        )
        for out in (5, 3)
    ]
    x, dy = torch.randn(7, 6, requires_grad=True), torch.randn(7, 8)
    parts = [
        layer(x) + 0.5 * (x @ lora.a.T) @ lora.b.T
        for layer, lora in zip(layers, loras, strict=True)
    ]
    expected = torch.cat(parts, dim=1)
    masters = [m for lora in loras for m in (lora.a, lora.b)]
    wanted = torch.autograd.grad(expected, [x, *masters], dy)
    with torch.no_grad():
        joined = LowRankLinear(layers, loras, kernels, scale=0.5)
        joined.refresh()
        input_buffer = joined.input_buffer(7)
        input_buffer[:, :6] = x
        assert torch.allclose(joined.forward(input_buffer, adapted=True), expected, atol=1e-5)
        dx = joined.backward(input_buffer, dy, MasterGradients())
        joined.backward(input_buffer, dy, MasterGradients())  # gradients are added up
        plain = joined.forward(input_buffer, adapted=False)
    assert torch.allclose(dx, wanted[0], atol=1e-5)
    for master, gradient in zip(masters, wanted[1:], strict=True):
        assert torch.allclose(master.grad, 2 * gradient, atol=1e-4)  # type: ignore[arg-type]
    # the layers' own weights are views now, and still the same
    assert torch.allclose(torch.cat([layer(x) for layer in layers], dim=1), plain, atol=1e-5)
