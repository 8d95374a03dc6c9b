from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from models.policy import head as head_module
from models.policy.head import token_logprobs
from models.policy.kernels import TorchKernels
from models.policy.native.bindings import NativeKernels
from models.ppo import kl

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("most_logits", "most_kept"), [(1, 2**22), (2**22, 2**22), (22, 30)])
@pytest.mark.parametrize("bias", [False, True])
def test_log_probs_and_kl_are_those_of_whole_distributions(
    compiled: bool,
    most_logits: int,
    most_kept: int,
    bias: bool,
    build_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # (22, 30): of three slices of two, two and one tokens, only the first is kept
    monkeypatch.setattr(head_module, "_LOGITS_PER_SLICE", most_logits)
    monkeypatch.setattr(head_module, "_MAX_SAVED_LOGITS", most_kept)
    kernels = NativeKernels(build_dir) if compiled else TorchKernels()
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11, bias=bias).requires_grad_(requires_grad=False)
    hidden, reference = torch.randn(5, 6, requires_grad=True), torch.randn(5, 6)
    chosen, temperature = torch.tensor([0, 10, 3, 3, 7]), torch.tensor([1.0, 0.5, 1.0, 2.0, 0.7])
    log_p = (head(hidden) / temperature[:, None]).log_softmax(-1)
    log_q = (head(reference) / temperature[:, None]).log_softmax(-1)
    expected = log_p.gather(1, chosen[:, None])[:, 0], kl.full(log_p, log_q)
    weights = torch.randn(2, 5)
    total = (expected[0] * weights[0] + expected[1] * weights[1]).sum()
    (wanted,) = torch.autograd.grad(total, hidden)

    found = token_logprobs(hidden, chosen, temperature, head, reference, kernels)
    (found[0] * weights[0] + found[1] * weights[1]).sum().backward()
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(hidden.grad, wanted, atol=1e-6)  # type: ignore[arg-type]

    with torch.no_grad():
        alone = token_logprobs(hidden, chosen, temperature, head, None, kernels)
    assert torch.allclose(alone[0], expected[0], atol=1e-6)
    assert alone[1].tolist() == [0.0] * 5


def test_without_a_reference_the_gradient_is_of_the_log_probs_alone() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11).requires_grad_(requires_grad=False)
    hidden, chosen = torch.randn(3, 6, requires_grad=True), torch.tensor([1, 2, 3])
    log_p = head(hidden).log_softmax(-1).gather(1, chosen[:, None]).sum()
    (wanted,) = torch.autograd.grad(log_p, hidden)
    token_logprobs(hidden, chosen, torch.ones(3), head)[0].sum().backward()
    assert torch.allclose(hidden.grad, wanted, atol=1e-6)  # type: ignore[arg-type]


def test_no_more_logits_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "_LOGITS_PER_SLICE", 22)
    monkeypatch.setattr(head_module, "_MAX_SAVED_LOGITS", 44)
    head = torch.nn.Linear(6, 11).requires_grad_(requires_grad=False)
    hidden, chosen = torch.ones(7, 6, requires_grad=True), torch.zeros(7, dtype=torch.long)
    logprobs, _ = token_logprobs(hidden, chosen, torch.ones(7), head)
    parts = logprobs.grad_fn.parts  # type: ignore[union-attr]
    assert [products is not None for _, products, _ in parts] == [True, True, False, False]
