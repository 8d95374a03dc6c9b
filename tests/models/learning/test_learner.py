"""Updates on a tiny model: what is liked becomes likelier, and nothing broken comes out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.adapters import STATE_FILE, WEIGHTS_FILE
from models.errors import AdapterError, LearningError
from models.gate import decide
from models.learning.learner import Learner
from models.learning.state import load_state
from models.policy.batch import collate
from models.recipe import described
from models.types import Sample
from tests.support.models.recipes import changed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.settings import LearnerSettings

pytestmark = pytest.mark.usefixtures("few_questions")

LIKED, DISLIKED = (40, 41, 42, 2), (50, 51, 52, 53, 54)


def _sample(name: str, response: tuple[int, ...], reward: float, **changes: object) -> Sample:
    sample = Sample(
        completion_id=name,
        user=f"user-{name}",
        prompt_ids=(5, 6, 7),
        response_ids=response,
        behaviour_logprobs=(-10.0,) * len(response),
        temperature=1.0,
        reward=reward,
        version="base",
        ended=True,
    )
    return replace(sample, **changes)  # type: ignore[arg-type]


FAST: dict[str, Any] = {
    "learning_rate": 0.01,
    "rate_warmup_steps": 0,
    "rate_decay_steps": math.inf,
    "adam_eps": 1e-5,
    "micro_batch_tokens": 16,
}


@pytest.fixture
def learner(settings: LearnerSettings) -> Learner:
    return Learner(changed(settings, **FAST))


def _fair(learner: Learner, samples: Sequence[Sample]) -> list[Sample]:
    """Give samples the log-probs that the policy as it stands would have sampled them with."""
    batch = collate(samples, range(len(samples)), device="cpu")
    with torch.no_grad():
        logprobs = learner._policy.logprobs(batch)
    return [
        replace(s, behaviour_logprobs=tuple(logprobs[i, : len(s.response_ids)].tolist()))
        for i, s in enumerate(samples)
    ]


@pytest.fixture
def samples(learner: Learner) -> list[Sample]:
    learner._policy.reset(0)
    return _fair(
        learner,
        [
            _sample("a", LIKED, 1.0),
            _sample("b", DISLIKED, -1.0),
            _sample("c", LIKED, 1.0),
            _sample("d", DISLIKED, -1.0),
        ],
    )


def _learn(learner: Learner, samples: Sequence[Sample], parent: str = "base", seed: int = 1):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return learner.learn(samples, parent=parent, seed=seed, progress=lambda _: None)


def _publish(learner: Learner, learned: object, sequence: int, parent: str = "base") -> str:
    return learner.publish(
        learned,  # type: ignore[arg-type]
        sequence=sequence,
        parent=parent,
        batch_hash=f"b{sequence}",
        fence=1,
        now=0.0,
    ).version


def _logprob(learner: Learner, response: tuple[int, ...]) -> float:
    batch = collate([_sample("x", response, 0.0)], [0], device="cpu")
    with torch.no_grad():
        return learner._policy.logprobs(batch).sum().item()


def test_liked_replies_become_likelier_and_disliked_ones_less(
    learner: Learner, samples: list[Sample]
) -> None:
    before = _logprob(learner, LIKED), _logprob(learner, DISLIKED)
    report = _learn(learner, samples).report
    after = _logprob(learner, LIKED), _logprob(learner, DISLIKED)
    assert after[0] > before[0] + 0.1
    assert after[1] < before[1] - 0.1
    assert (report["votes"], report["up"], report["down"], report["tokens"]) == (4, 2, 2, 18)
    assert report["kl_per_reply"] == pytest.approx(0.0, abs=1e-5)  # it began at the base
    assert report["effective_sample_size"] == pytest.approx(1.0)
    assert set(report["seconds"]) == {"recover", "load", "score", "learn", "measure"}
    assert report["peak_memory_mib"] > 100


def test_each_setback_shortens_the_step_and_doubles_beta_for_this_update_alone(
    learner: Learner, samples: list[Sample]
) -> None:
    def weights() -> torch.Tensor:
        return torch.cat([m.detach().flatten() for m in learner._policy.master.values()])

    first = _publish(learner, _learn(learner, samples), 1)
    start, found, momenta = weights(), [], []
    for setbacks in range(3):
        learned = learner.learn(
            samples, parent=first, seed=2, progress=lambda _: None, setbacks=setbacks
        )
        assert learned.report["setbacks"] == setbacks
        assert learned.report["recipe"] == described(learner._recipe)  # not the cautious one
        found.append((learned.report["beta"], (weights() - start).norm().item()))
        version = _publish(learner, learned, 2 + setbacks)
        moments = load_state(learner._store.path(version)).first.values()
        momenta.append(sum(moment.norm().item() for moment in moments))
    (beta, step), (twice, half), (four_times, quarter) = found
    assert (twice / beta, four_times / beta) == pytest.approx((2, 4))
    assert half < 0.75 * step
    assert quarter < 0.75 * half
    # The larger β is in Adam's momentum, with which the next update begins at its whole rate.
    assert momenta[1] < 0.75 * momenta[0]
    assert momenta[2] < 0.75 * momenta[1]


def test_votes_that_are_all_alike_change_nothing(learner: Learner, samples: list[Sample]) -> None:
    # each reply is exactly as good as the others: there is nothing to prefer
    before = _logprob(learner, LIKED)
    _learn(learner, [replace(s, reward=1.0) for s in samples])
    assert _logprob(learner, LIKED) == pytest.approx(before, abs=1e-4)


def test_one_vote_is_learned_from(learner: Learner, samples: list[Sample]) -> None:
    before = _logprob(learner, LIKED)
    _learn(learner, samples[:1])
    assert _logprob(learner, LIKED) > before


def test_the_same_batch_and_seed_give_the_same_version(
    learner: Learner, samples: list[Sample]
) -> None:
    one = _publish(learner, _learn(learner, samples), 1)
    two = _publish(learner, _learn(learner, samples), 1)
    assert one == two


def test_adam_goes_on_where_the_parent_stopped(
    learner: Learner, samples: list[Sample], settings: LearnerSettings
) -> None:
    first = _publish(learner, _learn(learner, samples), 1)
    samples = _fair(learner, samples)
    second = _learn(learner, samples, first, seed=2)
    assert second.report["kl_per_reply"] > 0.0001
    direct = _publish(learner, second, 2, first)
    again = Learner(changed(settings, **FAST))
    resumed = _publish(again, _learn(again, samples, first, seed=2), 2, first)
    assert direct == resumed
    # without the parent's state the result is another one
    (settings.adapters_dir / first / STATE_FILE).unlink()
    with pytest.raises(AdapterError, match="missing"):
        _learn(learner, samples, first, seed=2)


def test_micro_batches_do_not_change_the_result(
    settings: LearnerSettings, samples: list[Sample]
) -> None:
    found = []
    for tokens in (1, 1024):
        learner = Learner(settings.model_copy(update={"micro_batch_tokens": tokens}))
        _learn(learner, samples)
        found.append({k: v.detach().clone() for k, v in learner._policy.master.items()})
    for key, value in found[0].items():
        assert torch.allclose(value, found[1][key], atol=2e-5), key


def test_a_published_version_is_peft_readable_and_passes_the_gate(
    learner: Learner, samples: list[Sample], settings: LearnerSettings
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    version = _publish(learner, _learn(learner, samples), 1)
    expected = _logprob(learner, LIKED)
    model = AutoModelForCausalLM.from_pretrained(settings.base_model, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, settings.adapters_dir / version)
    ids = torch.tensor([[5, 6, 7, *LIKED]])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
    found = sum(logprobs[2 + i, token].item() for i, token in enumerate(LIKED))
    assert found == pytest.approx(expected, abs=1e-4)
    figures = learner.probe(version, lambda _: None)
    assert figures.candidate is not None
    assert figures.candidate.replies == 4
    assert figures.kl_per_reply is not None
    assert figures.kl_per_reply > 0.0001
    assert figures.kl_to_parent == figures.kl_per_reply  # its parent is the base
    verdict = decide(figures, settings.gate_bounds)
    # the random base says one common word in 167
    failed = {check.name for check in verdict.checks if not check.passed}
    assert failed <= {"common words"}


def test_the_gate_refuses_weights_that_are_not_finite(
    learner: Learner, samples: list[Sample], settings: LearnerSettings
) -> None:
    learned = _learn(learner, samples)
    with torch.no_grad():
        next(iter(learner._policy.master.values())).fill_(float("nan"))
    figures = learner.probe(_publish(learner, learned, 1), lambda _: None)
    assert not decide(figures, settings.gate_bounds).passed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"behaviour_logprobs": (-1.0,)}, "4 tokens but 1 log-probs"),
        ({"behaviour_logprobs": (-1.0, float("nan"), -1.0, -1.0)}, "not finite"),
        ({"reward": float("inf")}, "not finite"),
        ({"response_ids": (), "behaviour_logprobs": ()}, "no tokens"),
        ({"prompt_ids": (1, 10**6)}, "token ids outside of the base's"),
        ({"prompt_ids": (1, -1)}, "token ids outside of the base's"),
        ({"prompt_ids": (1,) * 10_000}, "tokens, and the base reads"),
    ],
)
def test_a_bad_vote_is_left_out_alone_and_named(
    learner: Learner, samples: list[Sample], changes: dict[str, object], message: str
) -> None:
    bad = replace(samples[0], **changes)  # type: ignore[arg-type]
    report = _learn(learner, [bad, *samples[1:]]).report
    (reason,) = report["unusable"]
    assert reason.startswith("a: ")
    assert message in reason
    assert report["votes"] == len(samples) - 1
    with pytest.raises(LearningError, match=f"No vote .* a: .*{message}"):
        _learn(learner, [bad])


def test_an_empty_batch_is_refused(learner: Learner) -> None:
    with pytest.raises(LearningError, match="empty"):
        _learn(learner, [])


def test_a_parent_of_another_rank_is_refused(
    make_version: Callable[[int], str], settings: LearnerSettings, samples: list[Sample]
) -> None:
    version = make_version(1)
    other = Learner(settings.model_copy(update={"lora_rank": 4}))
    with pytest.raises(AdapterError, match="THUMBLOOP_LORA_RANK"):
        _learn(other, samples, version)


@pytest.mark.parametrize("form", ["loss", "reward"])
def test_a_strong_penalty_keeps_the_policy_near_the_base(
    settings: LearnerSettings, samples: list[Sample], form: str
) -> None:
    distances = []
    for beta in (0.0, 5.0):
        changes: dict[str, Any] = {
            "adapter_store": settings.data_dir / f"beta-{beta}",
            "learning_rate": 0.01,
            "kl_form": form,
            "kl_coefficient": beta,
            "kl_power": 0.0,
            "max_step_kl": 100.0,
        }
        learner = Learner(changed(settings, **changes))
        version = "base"
        for sequence in (1, 2, 3):
            learned = _learn(learner, _fair(learner, samples), version, seed=sequence)
            version = _publish(learner, learned, sequence, version)
        distances.append(learner.probe(version, lambda _: None).kl_per_reply)
    assert distances[1] < distances[0] * 0.7


def test_the_published_weights_are_the_fp32_master(
    learner: Learner, samples: list[Sample], settings: LearnerSettings
) -> None:
    from safetensors.torch import load_file

    version = _publish(learner, _learn(learner, samples), 1)
    saved = load_file(settings.adapters_dir / version / WEIGHTS_FILE)
    assert {t.dtype for t in saved.values()} == {torch.float32}
    for key, master in learner._policy.master.items():
        assert torch.equal(saved[key], master)
