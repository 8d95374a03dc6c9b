"""The gradient of a minibatch, however it is divided among workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from models.base import load_base
from models.learner_state import LearnerState
from models.learning.epochs import Epochs
from models.learning.scoring import score_samples
from models.learning.workers import Workers
from models.policy import Policy
from models.types import Sample

if TYPE_CHECKING:
    from models.settings import LearnerSettings

SAMPLES = [
    Sample("x", f"user-{n}", (5, 6, 7), reply, (-6.0,) * len(reply), 1.0, r, "base", ended=True)
    for n, (reply, r) in enumerate(
        [
            (tuple(range(40, 60)), 1.0),
            ((50, 51, 52, 53, 54), 1.0),
            ((40, 60), -1.0),
            ((70, 71, 72), 0.4),
            ((70, 71, 80, 90), -0.4),
        ]
    )
]


def _gradients(policy: Policy, settings: LearnerSettings) -> dict[str, torch.Tensor]:
    policy.reset(3)
    with torch.no_grad():
        for key, master in policy.master.items():
            if ".lora_B." in key:
                master.fill_(0.01)
            master.grad = None
    policy.publish_master()
    state = LearnerState(beta=0.1)
    scored = score_samples(SAMPLES, policy, state, settings, lambda _: None)
    adam = torch.optim.Adam(policy.master.values())
    epochs = Epochs(policy, SAMPLES, scored, adam, torch.Generator(), settings)
    for _ in range(2):  # sums of the workers' own begin at 0 each time
        adam.zero_grad()
        epochs.add_gradients(range(len(SAMPLES)))
    return {k: m.grad.clone() for k, m in policy.master.items() if m.grad is not None}


@pytest.mark.parametrize(
    ("workers", "tokens"),
    [
        (2, 1024),
        (3, 90),  # room for 30 tokens each
        (2, 40),  # the first reply, with its prompt, is too long for a worker
        (8, 1024),  # more than there are replies
    ],
)
def test_the_gradient_is_that_of_one_pass(
    settings: LearnerSettings, workers: int, tokens: int
) -> None:
    policy = Policy(load_base(settings), settings)
    policy.workers, policy.pass_tokens = Workers(), 1024
    wanted = _gradients(policy, settings)
    policy.workers, policy.pass_tokens = Workers(workers), tokens // workers
    divided = settings.model_copy(update={"micro_batch_tokens": tokens})
    found = _gradients(policy, divided)
    for key, gradient in wanted.items():
        assert gradient.any()
        assert (found[key] - gradient).norm() <= 1e-4 * gradient.norm(), key
    again = _gradients(policy, divided)
    assert all(torch.equal(again[key], found[key]) for key in found)
