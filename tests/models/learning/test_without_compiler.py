"""Without the compiled kernels the learner still learns the same, slower."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from models.errors import EngineError
from models.learning.learner import Learner
from models.policy.kernels import TorchKernels
from models.policy.native.bindings import NativeKernels
from models.types import BASE, Sample
from tests.support.models.recipes import changed

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    import torch

    from models.settings import LearnerSettings

VOTES = [
    Sample(str(n), f"u{n}", (5, 6, n), reply, (-6.0,) * len(reply), 1.0, reward, BASE, ended=True)
    for n, (reply, reward) in enumerate(
        [((40, 41, 42, 2), 1.0), ((50, 51, 52, 53), -1.0), ((40, 60), 0.4), ((70, 71, 2), -1.0)]
    )
]


def _learn(settings: LearnerSettings) -> tuple[Learner, dict[str, torch.Tensor]]:
    """Return a learner, and the weights that it learned in an update."""
    learner = Learner(settings)
    learner.learn(VOTES * 4, parent=BASE, seed=1, progress=lambda _: None)
    return learner, {key: m.detach().clone() for key, m in learner._policy.master.items()}


def test_an_update_without_a_compiler_gives_the_same_weights(
    settings: LearnerSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = changed(settings, learning_rate=0.01)
    compiled, ours = _learn(settings)
    assert isinstance(compiled._policy._trunk.kernels, NativeKernels)

    def fail(_: Path) -> None:
        raise EngineError("There is no compiler.")

    monkeypatch.setattr("models.policy.kernels.NativeKernels", fail)
    with caplog.at_level(logging.WARNING):
        plain, theirs = _learn(settings)
    assert isinstance(plain._policy._trunk.kernels, TorchKernels)
    assert "slower. There is no compiler." in caplog.text
    for key, weights in theirs.items():
        moved = (weights - ours[key]).norm() / weights.norm()
        assert moved < 1e-4, key
        assert ".lora_B." not in key or weights.any(), key
