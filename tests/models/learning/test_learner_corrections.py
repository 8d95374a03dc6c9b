"""What people wrote beside their votes becomes likelier, where the setting is on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.learning.corrections import find_corrections
from models.learning.learner import Learner
from models.learning.state import load_state
from models.policy.batch import collate
from models.recipe import THUMBLOOP
from models.types import BASE, Sample
from tests.support.models.recipes import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.settings import LearnerSettings

BETTER = "Rome is the capital of Italy."


def _sample(name: str, reply: tuple[int, ...], reward: float, correction: str = "") -> Sample:
    return Sample(
        completion_id=name,
        user=f"user-{name}",
        prompt_ids=(5, 6, 7),
        response_ids=reply,
        behaviour_logprobs=(-6.0,) * len(reply),
        temperature=1.0,
        reward=reward,
        version=BASE,
        ended=True,
        correction=correction,
    )


SAMPLES = [
    _sample("a", (40, 41, 42, 2), 1.0),
    _sample("b", (50, 51, 52, 53, 54), -1.0, BETTER),
    _sample("c", (40, 60), -1.0),
]
WITHOUT = [replace(sample, correction="") for sample in SAMPLES]


@pytest.fixture
def make_learner(settings: LearnerSettings) -> Callable[..., Learner]:
    changes = {"learning_rate": 0.01, "minibatch": 2, "max_step_kl": 100.0}
    return lambda **more: Learner(changed(settings, **(changes | more)))


def _learn(learner: Learner, samples: Sequence[Sample], parent: str = BASE) -> Any:
    return learner.learn(samples, parent=parent, seed=1, progress=lambda _: None)


def _weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {key: m.detach().clone() for key, m in learner._policy.master.items()}


def _likelihood(learner: Learner) -> float:
    """Return log π of the correction, as a reply to the prompt."""
    ids = (*learner._base.tokenizer(BETTER)["input_ids"], learner._base.tokenizer.eos_token_id)
    batch = collate(
        [replace(SAMPLES[1], response_ids=ids, behaviour_logprobs=())], [0], device="cpu"
    )
    with torch.no_grad():
        return learner._policy.logprobs(batch).sum().item()


def test_a_correction_becomes_likelier_only_where_the_setting_is_on(
    make_learner: Callable[..., Learner],
) -> None:
    off, on = make_learner(), make_learner(corrections=1.0)
    report = _learn(off, SAMPLES).report
    assert (report["corrections"], report["corrections_cut"]) == (0, 0)
    untold = _likelihood(off)
    kept = _weights(off)
    _learn(off, WITHOUT)
    assert all(torch.equal(kept[key], now) for key, now in _weights(off).items())
    report = _learn(on, SAMPLES).report
    assert (report["corrections"], report["corrections_cut"]) == (1, 0)
    assert report["votes"] == 3
    assert _likelihood(on) > untold + 5.0
    # without a correction the setting changes nothing
    _learn(on, WITHOUT)
    assert all(torch.equal(kept[key], now) for key, now in _weights(on).items())


def test_a_correction_is_a_reply_to_its_votes_prompt_of_bounded_length(
    make_learner: Callable[..., Learner],
) -> None:
    base = make_learner()._base
    end, on = base.tokenizer.eos_token_id, replace(THUMBLOOP, corrections=1.0)
    samples = [SAMPLES[0], replace(SAMPLES[1], temperature=0.5, correction=f"  {BETTER}\n")]
    found = find_corrections(samples, base, on)
    (reply,) = found.samples
    ids = tuple(base.tokenizer(BETTER)["input_ids"])
    assert (reply.prompt_ids, reply.response_ids, reply.ended) == ((5, 6, 7), (*ids, end), True)
    assert reply.temperature == 1.0
    assert (dict(found.of_row), found.cut) == ({1: 0}, 0)
    assert (found.among([0, 1]), found.among([0])) == ([0], [])
    short = find_corrections(samples, base, replace(on, correction_tokens=3))
    assert (short.samples[0].response_ids, short.samples[0].ended, short.cut) == (ids[:3], False, 1)
    # blank ones say nothing, and nobody can write a control token
    odd = [replace(SAMPLES[0], correction=c) for c in (" \n", "Yes.<|im_end|>\n<|im_start|>")]
    (spelled,) = find_corrections(odd, base, on).samples
    control = set(base.tokenizer.all_special_ids)
    assert not control & set(spelled.response_ids[:-1])
    assert spelled.response_ids[-1] == end


def test_what_is_carried_on_is_the_same_and_learning_on_gives_the_same_bits(
    make_learner: Callable[..., Learner], settings: LearnerSettings
) -> None:
    def publish(learner: Learner, learned: Any, sequence: int, parent: str) -> str:
        return learner.publish(
            learned, sequence=sequence, parent=parent, batch_hash="", fence=1, now=0.0
        ).version

    learner = make_learner(corrections=0.5)
    first = publish(learner, _learn(learner, SAMPLES), 1, BASE)
    plain = make_learner()
    beside = publish(plain, _learn(plain, WITHOUT), 2, BASE)
    ours, theirs = (load_state(settings.adapters_dir / v) for v in (first, beside))
    # a correction is no vote: it does not count in its user's mean, and draws nothing
    assert ours.users == theirs.users
    assert ours.step == theirs.step
    assert torch.equal(ours.random, theirs.random)  # type: ignore[arg-type]
    second = publish(learner, _learn(learner, SAMPLES, first), 3, first)
    again = make_learner(corrections=0.5)
    assert publish(again, _learn(again, SAMPLES, first), 3, first) == second
