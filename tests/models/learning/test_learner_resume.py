"""Stopping, going back and bad batches: what an update leaves behind, on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.adapters import STATE_FILE, AdapterStore, Origin
from models.errors import LearningError
from models.learning.learner import Learner
from models.learning.state import load_state
from models.policy.batch import collate
from models.types import BASE, Sample
from tests.support.models.recipes import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.settings import LearnerSettings


def _sample(name: str, reply: tuple[int, ...], reward: float, **changes: Any) -> Sample:
    sample = Sample(
        completion_id=name,
        user=f"user-{name}",
        prompt_ids=(5, 6, 7),
        response_ids=reply,
        behaviour_logprobs=(-6.0,) * len(reply),
        temperature=1.0,
        reward=reward,
        version=BASE,
        ended=True,
    )
    return replace(sample, **changes)


SAMPLES = [
    _sample("a", (40, 41, 42, 2), 1.0),
    _sample("b", (50, 51, 52, 53, 54), 1.0),
    _sample("c", (40, 60), -1.0),
    _sample("d", (70, 71, 72), 0.4),
]


@pytest.fixture
def make_learner(settings: LearnerSettings) -> Callable[..., Learner]:
    def make(**more: Any) -> Learner:
        changes = {"learning_rate": 0.01, "minibatch": 2, "max_step_kl": 100.0, **more}
        return Learner(changed(settings, **changes))

    return make


def _learn(learner: Learner, samples: Sequence[Sample], parent: str = BASE, seed: int = 1) -> Any:
    return learner.learn(samples, parent=parent, seed=seed, progress=lambda _: None)


def _publish(learner: Learner, learned: Any, sequence: int, parent: str = BASE) -> str:
    return learner.publish(
        learned, sequence=sequence, parent=parent, batch_hash="", fence=1, now=0.0
    ).version


def _weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {key: m.detach().clone() for key, m in learner._policy.master.items()}


def _same_bits(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("rounds", [0, 2])
def test_learning_on_from_a_folder_gives_the_bits_of_never_having_stopped(
    rounds: int, make_learner: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    votes = SAMPLES * 3
    # never stopped: the second update takes the optimiser, state and weights as they are in memory
    steady = make_learner(practice_rounds=rounds)
    memory: dict[str, Any] = {}
    make_optimizer, make_state = steady._optimizer, steady._state_after

    def keep_optimizer(*arguments: Any) -> Any:
        memory["optimizer"] = make_optimizer(*arguments)
        return memory["optimizer"]

    def keep_state(*arguments: Any) -> Any:
        memory["state"] = make_state(*arguments)
        return memory["state"]

    monkeypatch.setattr(steady, "_optimizer", keep_optimizer)
    monkeypatch.setattr(steady, "_state_after", keep_state)
    learned = _learn(steady, votes)
    assert len(learned.report["practice"].get("expected", [])) == rounds
    monkeypatch.setattr(steady, "_start_from", lambda *_: memory["state"])
    monkeypatch.setattr(steady, "_optimizer", lambda *_: memory["optimizer"])
    _learn(steady, votes[::-1], "in memory", seed=2)

    first = make_learner(practice_rounds=rounds)
    version = _publish(first, _learn(first, votes), 1)
    second = make_learner(practice_rounds=rounds)
    _learn(second, votes[::-1], version, seed=2)
    assert _same_bits(_weights(second), _weights(steady))


def test_iterations_of_one_update_give_the_bits_of_as_many_updates(
    make_learner: Callable[..., Learner], settings: LearnerSettings
) -> None:
    apart = make_learner()
    version = _publish(apart, _learn(apart, SAMPLES), 1)
    last = _publish(apart, _learn(apart, SAMPLES[::-1], version), 2, version)

    at_once = make_learner(iteration_votes=4)
    dealt = [sample for both in zip(SAMPLES, SAMPLES[::-1], strict=True) for sample in both]
    learned = _learn(at_once, dealt)
    joined = _publish(at_once, learned, 3)
    assert _same_bits(_weights(at_once), _weights(apart))
    folders = [settings.adapters_dir / name for name in (last, joined)]
    assert folders[0].joinpath(STATE_FILE).read_bytes() == (
        folders[1].joinpath(STATE_FILE).read_bytes()
    )
    figures = learned.report
    assert (figures["iterations"], figures["votes"], figures["steps"]) == (2, 8, 16)


def test_the_order_of_minibatches_goes_on_where_the_parent_stopped(
    make_learner: Callable[[], Learner], settings: LearnerSettings
) -> None:
    learner = make_learner()
    version = _publish(learner, _learn(learner, SAMPLES), 1)
    state = load_state(settings.adapters_dir / version)
    going_on = torch.randperm(50, generator=state.generator(1))
    assert not torch.equal(going_on, torch.randperm(50, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(going_on, torch.randperm(50, generator=state.generator(2)))


def test_going_back_to_a_version_takes_its_own_state(
    make_learner: Callable[[], Learner], settings: LearnerSettings
) -> None:
    learner = make_learner()
    one = _publish(learner, _learn(learner, SAMPLES), 1)
    _learn(learner, SAMPLES[::-1], one)
    expected = _weights(learner)
    two = _publish(learner, _learn(learner, SAMPLES[:3], one), 2, one)
    steps = [load_state(settings.adapters_dir / v).step for v in (one, two)]
    assert steps == [8, 16]  # 4 epochs of 2 minibatches each
    _learn(learner, SAMPLES[::-1], one)
    assert _same_bits(_weights(learner), expected)


def test_log_probs_that_nobody_recorded_are_computed_under_the_version_that_replied(
    make_learner: Callable[[], Learner], make_version: Callable[[int], str]
) -> None:
    version = make_version(1)
    learner = make_learner()
    learner._policy.load(learner._store.path(version))
    batch = collate(SAMPLES[:1], [0], device="cpu")
    with torch.no_grad():
        ours = tuple(learner._policy.logprobs(batch)[0].tolist())
        base = tuple(learner._policy.reference_logprobs(batch)[0].tolist())
    unknown = {"behaviour_logprobs": ()}
    for wrote, expected in ((version, ours), (BASE, base)):
        whole = [replace(SAMPLES[0], version=wrote, behaviour_logprobs=expected), *SAMPLES[1:]]
        _learn(learner, whole)
        wanted = _weights(learner)
        lacking = [replace(whole[0], **unknown), *SAMPLES[1:]]  # type: ignore[arg-type]
        report = _learn(learner, lacking).report
        assert (report["recovered"], report["dropped_without_logprobs"]) == (1, 0)
        for key, weights in _weights(learner).items():
            assert torch.allclose(weights, wanted[key], atol=1e-5), key


def test_votes_without_log_probs_of_a_version_that_is_gone_are_dropped_and_counted(
    make_learner: Callable[[], Learner],
) -> None:
    learner = make_learner()
    gone = replace(SAMPLES[0], behaviour_logprobs=(), version="v000009-0123456789ab")
    report = _learn(learner, [gone, *SAMPLES[1:]]).report
    assert (report["votes"], report["recovered"], report["dropped_without_logprobs"]) == (3, 0, 1)
    with pytest.raises(LearningError, match="discard the votes"):
        _learn(learner, [gone])


def test_a_vote_of_a_version_that_is_gone_is_learned_with_its_own_log_probs(
    make_learner: Callable[[], Learner],
) -> None:
    learner = make_learner()
    gone = [replace(s, version="v000009-0123456789ab") for s in SAMPLES]
    _learn(learner, gone)
    weights = _weights(learner)
    _learn(learner, SAMPLES)
    assert _same_bits(weights, _weights(learner))


def test_a_parent_that_is_not_finite_is_refused_and_leaves_the_learner_usable(
    make_learner: Callable[[], Learner], settings: LearnerSettings
) -> None:
    learner = make_learner()
    _learn(learner, SAMPLES)
    expected = _weights(learner)
    with torch.no_grad():
        for master in learner._policy.master.values():
            master.fill_(float("nan"))
    base = learner._base
    origin = Origin(BASE, 1, "", 1, base.name, base.content_hash, 0.0)
    store = AdapterStore(settings.adapters_dir)
    broken = store.publish(1, origin, learner._policy.save).version
    with pytest.raises(LearningError, match=r"not finite.*earlier version"):
        _learn(learner, SAMPLES, broken)
    assert [p.name for p in settings.adapters_dir.iterdir()] == [broken]
    _learn(learner, SAMPLES)
    assert _same_bits(_weights(learner), expected)


def test_impossible_log_probs_neither_break_nor_rule_an_update(
    make_learner: Callable[[], Learner],
) -> None:
    # as if a token had been almost impossible when it was sampled: its weight is capped
    learner = make_learner()
    odd = replace(SAMPLES[0], behaviour_logprobs=(-1e30, -5.0, -5.0, -5.0))
    report = _learn(learner, [odd, *SAMPLES[1:]]).report
    assert 0 < report["grad_norm"] < float("inf")
    assert all(m.isfinite().all() for m in learner._policy.master.values())
