"""Our passes against transformers', peft's and autograd's, on tiny models in fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from models.base.loading import Base
from models.policy import trunk
from models.policy.batch import collate
from models.policy.kernels import TorchKernels
from models.policy.native.bindings import NativeKernels
from models.policy.policy import Policy
from models.policy.workers import Workers
from models.types import Sample

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from models.settings import LearnerSettings

SIZES = {
    "vocab_size": 60,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}


def _sample(prompt: tuple[int, ...], reply: tuple[int, ...], temperature: float = 1.0) -> Sample:
    return Sample(
        "x", "u", prompt, reply, (-1.0,) * len(reply), temperature, 1.0, "base", ended=True
    )


SAMPLES = [
    _sample((5, 6, 7), (8, 9, 10, 11)),
    _sample((5, 6, 7), (8, 9, 12), 0.5),
    _sample((5, 6), (7, 8)),
    _sample((20,), (21, 22, 23, 24, 25, 26, 27)),
]


def _policy(config: PretrainedConfig, settings: LearnerSettings) -> Policy:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(requires_grad=False)
    for name, buffer in model.named_parameters():
        if name.endswith("bias") or "norm" in name:  # ones and zeros would hide mistakes
            buffer.data = buffer.data + 0.3 * torch.randn(buffer.shape)
    policy = Policy(Base(model, None, "tiny", "hash", frozenset({2})), settings)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for master in policy.master.values():
            master.copy_(0.2 * torch.randn(master.shape, generator=random))
    policy.publish_master()
    return policy


def _gradients(policy: Policy, tokens: int = 1024) -> dict[str, torch.Tensor]:
    """Of a mixed loss over ``SAMPLES``, alone or together as far as ``tokens`` allow."""
    groups = [[0, 1, 2, 3]] if tokens > 1 else [[0], [1], [2], [3]]
    for master in policy.master.values():
        master.grad = None
    for group in groups:
        batch = collate(SAMPLES, group, device="cpu")
        scores = policy.score(batch, policy.measure(batch).reference_states)
        (scores.logprobs.sum() + 0.3 * scores.kl.sum()).backward()  # type: ignore[no-untyped-call]
    return {k: m.grad.clone() for k, m in policy.master.items() if m.grad is not None}


def _assert_alike(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, gradient in theirs.items():
        assert (ours[key] - gradient).norm() <= 1e-4 * gradient.norm(), key


@pytest.mark.parametrize("config", [LlamaConfig(**SIZES), Qwen2Config(**SIZES)])
@pytest.mark.parametrize("max_saved_tokens", [1024, 1])
@pytest.mark.parametrize("kernels", [NativeKernels, TorchKernels])
def test_packed_passes_are_those_of_transformers(
    config: PretrainedConfig,
    max_saved_tokens: int,
    kernels: type,
    settings: LearnerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # with room for one token, the layers' inputs alone are kept
    runner = "transformers" if kernels is TorchKernels else "auto"
    changes = {"micro_batch_tokens": max_saved_tokens, "runner": runner}
    settings = settings.model_copy(update=changes)
    packed = _policy(config, settings)
    assert isinstance(packed._trunk, trunk.PackedTrunk)
    assert isinstance(packed._trunk.kernels, kernels)
    monkeypatch.setattr(trunk, "unsupported_reason", lambda _: "for this test")
    padded = _policy(config, settings)
    assert isinstance(padded._trunk, trunk.TransformersTrunk)
    batch = collate(SAMPLES, range(4), device="cpu")
    for sampled_kl in (False, True):
        ours, theirs = (p.measure(batch, sampled_kl=sampled_kl) for p in (packed, padded))
        assert torch.allclose(ours.start, theirs.start, atol=1e-4)
        assert torch.allclose(ours.kl, theirs.kl, atol=1e-4)
        assert not torch.allclose(ours.kl, torch.zeros(()), atol=0.1)
        assert bool((ours.kl < 0).any()) is sampled_kl
    for depth in (1, 2):
        means = [p.reference_means(batch, depth=depth) for p in (packed, padded)]
        torch.testing.assert_close(*means, atol=1e-4, rtol=1e-4)
    _assert_alike(_gradients(packed), _gradients(padded))


def test_means_of_the_base_are_those_of_a_reply_and_of_no_adapter(
    settings: LearnerSettings,
) -> None:
    policy = _policy(LlamaConfig(**SIZES), settings)
    means = policy.reference_means(collate(SAMPLES, range(4), device="cpu"), depth=2)
    sample = SAMPLES[0]
    with torch.no_grad(), policy.model.disable_adapter():
        ids = torch.tensor([[*sample.prompt_ids, *sample.response_ids]])
        states = policy.model(input_ids=ids, output_hidden_states=True).hidden_states[2][0]
    torch.testing.assert_close(means[0], states[2:6].mean(0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("ours", [True, False])
def test_rows_alone_and_together_have_the_same_gradient(
    ours: bool, settings: LearnerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not ours:
        monkeypatch.setattr(trunk, "unsupported_reason", lambda _: "for this test")
    policy = _policy(LlamaConfig(**SIZES), settings)
    _assert_alike(_gradients(policy), _gradients(policy, tokens=1))


def test_a_model_with_norms_that_ours_lacks_learns_with_transformers(
    settings: LearnerSettings,
) -> None:
    policy = _policy(Qwen3Config(**SIZES, head_dim=16), settings)
    assert isinstance(policy._trunk, trunk.TransformersTrunk)
    assert all(g.isfinite().all() and g.any() for g in _gradients(policy).values())


def test_a_new_adapter_is_the_base_and_scored_once(
    settings: LearnerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = _policy(LlamaConfig(**SIZES), settings)
    policy.reset(0)
    batch = collate(SAMPLES, range(4), device="cpu")
    apart = policy.reference_logprobs(batch)
    monkeypatch.setattr(policy._trunk, "reference_hidden", None)  # a call would fail
    measured = policy.measure(batch)
    assert torch.allclose(measured.start, apart, atol=1e-5)
    assert not measured.kl.any()


@pytest.mark.parametrize("reference", [False, True])
def test_many_replies_are_scored_in_their_order_by_workers_without_a_gradient(
    settings: LearnerSettings, *, reference: bool
) -> None:
    policy = _policy(LlamaConfig(**SIZES), settings)
    policy.workers, policy.pass_tokens = Workers(2), 12  # three passes, the longest reply first
    of_one = policy.reference_logprobs if reference else policy.logprobs
    expected = [of_one(collate([sample], [0], device="cpu"))[0] for sample in SAMPLES]
    found = policy.reply_logprobs(SAMPLES, reference=reference)
    assert [len(values) for values in found] == [4, 3, 2, 7]
    for ours, alone in zip(found, expected, strict=True):
        assert torch.allclose(ours, alone, atol=1e-5)
        assert not ours.requires_grad
