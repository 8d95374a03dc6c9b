"""The gradient of a minibatch, however it is divided among workers."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from models.base.loading import load_base
from models.learning.corrections import Corrections
from models.learning.epochs import Epochs
from models.learning.scoring import score_samples
from models.learning.state import LearnerState
from models.policy.batch import collate
from models.policy.policy import Policy
from models.policy.workers import Workers
from models.recipe import THUMBLOOP
from models.types import Sample
from tests.support.models.recipes import changed

if TYPE_CHECKING:
    from collections.abc import Sequence

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


CORRECTED = [
    replace(SAMPLES[1], response_ids=(90, 91, 92, 93), behaviour_logprobs=()),
    replace(SAMPLES[2], response_ids=(94, 95), behaviour_logprobs=()),
]
CORRECTIONS = Corrections(CORRECTED, of_row={1: 0, 2: 1})


def _gradients(
    policy: Policy, settings: LearnerSettings, corrections: Corrections | None = None
) -> dict[str, torch.Tensor]:
    policy.reset(3)
    with torch.no_grad():
        for key, master in policy.master.items():
            if ".lora_B." in key:
                master.fill_(0.01)
            master.grad = None
    policy.publish_master()
    recipe = changed(settings, kl_coefficient=0.1, kl_power=0.0).recipe
    scored = score_samples(SAMPLES, policy, LearnerState(), recipe, lambda _: None)
    adam = torch.optim.Adam(policy.master.values())
    schedule = LambdaLR(adam, lambda _: 1.0)
    random = torch.Generator()
    epochs = Epochs(
        policy, SAMPLES, scored, schedule, random, recipe, settings, corrections=corrections
    )
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
    settings = changed(settings, corrections=0.5)
    wanted = _gradients(policy, settings, CORRECTIONS)
    policy.workers, policy.pass_tokens = Workers(workers), tokens // workers
    divided = settings.model_copy(update={"micro_batch_tokens": tokens})
    found = _gradients(policy, divided, CORRECTIONS)
    for key, gradient in wanted.items():
        assert gradient.any()
        assert (found[key] - gradient).norm() <= 1e-4 * gradient.norm(), key
    again = _gradients(policy, divided, CORRECTIONS)
    assert all(torch.equal(again[key], found[key]) for key in found)


@pytest.mark.parametrize(("together", "size"), [(1, 2), (2, 4), (2, 3), (4, 8), (4, 0), (3, 6)])
def test_a_minibatch_has_a_questions_replies_together(
    settings: LearnerSettings, together: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [replace(SAMPLES[1], completion_id=str(n)) for n in range(16)]
    recipe = replace(THUMBLOOP, minibatch=size, epochs=2, max_step_kl=1e9)
    policy = Policy(load_base(settings), settings)
    scored = score_samples(samples, policy, LearnerState(), recipe, lambda _: None)
    scored = replace(scored, together=together)
    schedule = LambdaLR(torch.optim.Adam(policy.master.values()), lambda _: 1.0)
    random = torch.Generator().manual_seed(1)
    epochs = Epochs(policy, samples, scored, schedule, random, recipe, settings)
    steps: list[Sequence[int]] = []

    def noted(rows: Sequence[int]) -> float:
        steps.append(rows)
        return 0.0

    monkeypatch.setattr(epochs, "_step", noted)
    epochs.run(lambda _: None)
    order = [row for rows in steps for row in rows]
    assert {len(rows) for rows in steps} <= {size or 16, 16 % (size or 16)}
    for epoch in (order[:16], order[16:]):
        assert sorted(epoch) == list(range(16))
        questions = [question for question, _ in groupby(row // together for row in epoch)]
        assert len(set(questions)) == len(questions)
    assert order[:16] != order[16:]


@pytest.mark.parametrize("together", [2, 3])
def test_a_questions_replies_go_to_one_worker(settings: LearnerSettings, together: int) -> None:
    samples = [
        replace(SAMPLES[1], prompt_ids=(5, 6, n // together), response_ids=(50,) * (1 + n % 5))
        for n in range(4 * together)
    ]
    samples = [replace(s, behaviour_logprobs=(-6.0,) * len(s.response_ids)) for s in samples]
    policy = Policy(load_base(settings), settings)
    policy.workers = Workers(2)
    scored = score_samples(samples, policy, LearnerState(), THUMBLOOP, lambda _: None)
    scored = replace(scored, together=together)
    schedule = LambdaLR(torch.optim.Adam(policy.master.values()), lambda _: 1.0)
    random = torch.Generator()
    epochs = Epochs(policy, samples, scored, schedule, random, THUMBLOOP, settings)
    parts = epochs._parts(range(len(samples)))
    assert [len(part.rows) for part in parts.parallel] == [2 * together, 2 * together]
    for part in parts.parallel:
        prompts = [samples[row].prompt_ids for row in part.rows]
        assert len(set(prompts)) == 2
    assert parts.alone == []


@pytest.mark.parametrize(
    ("form", "divisors"),
    [
        ("constant", (64.0, 64.0)),
        ("token", (3.0, 3.0)),  # 6 tokens in 2 corrections
    ],
)
def test_corrections_add_the_gradient_of_their_likelihood(
    settings: LearnerSettings, form: str, divisors: tuple[float, float]
) -> None:
    settings = changed(settings, corrections=0.5, length_form=form)
    policy = Policy(load_base(settings), settings)
    without = _gradients(policy, settings)
    found = _gradients(policy, settings, CORRECTIONS)
    for master in policy.master.values():
        master.grad = None
    sums = policy.logprobs(collate(CORRECTED, [0, 1], device="cpu")).sum(-1)
    # 0.5 of the mean over all five rows
    (-0.5 * (sums / torch.tensor(divisors)).sum() / 5).backward()
    for key, master in policy.master.items():
        assert master.grad is not None
        assert master.grad.any()
        assert torch.allclose(found[key] - without[key], master.grad, rtol=1e-3, atol=1e-6), key


@pytest.mark.parametrize(("kls", "epochs", "early"), [
    ([0.1, 0.1, 0.1], 3, False),
    ([0.1, 0.9, 0.1], 2, True),
    ([0.1, 0.1, 0.9], 3, False),  # nothing was left to stop
])  # fmt: skip
def test_only_passes_that_were_left_out_are_an_early_stop(
    settings: LearnerSettings,
    kls: list[float],
    epochs: int,
    early: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = replace(THUMBLOOP, minibatch=0, epochs=3, max_step_kl=0.5)
    policy = Policy(load_base(settings), settings)
    scored = score_samples(SAMPLES, policy, LearnerState(), recipe, lambda _: None)
    schedule = LambdaLR(torch.optim.Adam(policy.master.values()), lambda _: 1.0)
    order = torch.Generator()
    learning = Epochs(policy, SAMPLES, scored, schedule, order, recipe, settings)
    steps = iter(kls)
    monkeypatch.setattr(learning, "_step", lambda _: next(steps))
    trace = learning.run(lambda _: None)
    assert (len(trace.step_kls), trace.stopped_early) == (epochs, early)
