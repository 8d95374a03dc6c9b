"""The engine against transformers' own ``generate`` and a full forward pass, in fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from models.adapters import AdapterStore
from models.base.loading import load_base
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import read_adapter
from models.decoding.runners import make_runner
from models.errors import EngineError, PromptTooLongError, UnknownTokenError
from models.types import BASE, GenerationRequest, Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.settings import LearnerSettings

PROMPTS = [(5, 9, 11), tuple(range(20, 60)), (7,), (300, 301, 302, 303, 304, 305)]
GREEDY = Sampling(temperature=0.0, max_tokens=12)


@pytest.fixture
def versions(make_version: Callable[[int], str]) -> list[str]:
    return [make_version(1), make_version(2)]


@pytest.fixture(params=["native", "transformers"])
def engine(
    request: pytest.FixtureRequest, settings: LearnerSettings, versions: list[str]
) -> Engine:
    settings = settings.model_copy(update={"runner": request.param})
    bank = AdapterBank()
    store = AdapterStore(settings.adapters_dir)
    base = load_base(settings)
    runner = make_runner(base, settings)
    for version in versions:
        bank.add(version, runner.prepare(read_adapter(store.path(version))))
    return Engine(base, runner, bank, settings)


def _decode(
    engine: Engine, jobs: Sequence[tuple[tuple[int, ...], str, Sampling]]
) -> list[list[Token]]:
    rows = []
    for number, (prompt, version, sampling) in enumerate(jobs):
        rows.append(engine.make_row(GenerationRequest(str(number), prompt, version, sampling)))
        engine.scheduler.submit(rows[-1])
    tokens: dict[str, list[Token]] = {row.id: [] for row in rows}
    while not engine.scheduler.idle:
        for gain in engine.step():
            tokens[gain.row.id].append(gain.token)
    return [tokens[row.id] for row in rows]


def _reference(settings: LearnerSettings, version: str) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(settings.base_model, dtype=torch.float32)
    if version != BASE:
        model = PeftModel.from_pretrained(model, settings.adapters_dir / version)
    return model.eval()


def _generate(model: torch.nn.Module, prompt: tuple[int, ...]) -> list[int]:
    out = model.generate(  # type: ignore[operator]
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=GREEDY.max_tokens,
        do_sample=False,
        pad_token_id=2,
    )
    return out[0, len(prompt) :].tolist()


def test_greedy_replies_of_several_versions_in_one_batch_are_each_versions_own(
    engine: Engine, settings: LearnerSettings, versions: list[str]
) -> None:
    jobs = [(prompt, version, GREEDY) for prompt in PROMPTS for version in (BASE, *versions)][
        : settings.max_queue
    ]
    replies = _decode(engine, jobs)
    models = {version: _reference(settings, version) for version in (BASE, *versions)}
    for (prompt, version, _), reply in zip(jobs, replies, strict=True):
        assert [t.id for t in reply] == _generate(models[version], prompt), version
    # the comparison means something only if the versions differ
    assert len({tuple(t.id for t in reply) for reply in replies[:3]}) == 3


def test_log_probs_are_those_of_a_full_forward_pass(
    engine: Engine, settings: LearnerSettings, versions: list[str]
) -> None:
    sampling = Sampling(temperature=0.7, max_tokens=12, seed=3)
    replies = _decode(engine, [(p, versions[0], sampling) for p in PROMPTS])
    model = _reference(settings, versions[0])
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        ids = torch.tensor([[*prompt, *(t.id for t in reply)]])
        with torch.no_grad():
            logprobs = (model(input_ids=ids).logits[0] / 0.7).log_softmax(-1)
        for index, token in enumerate(reply):
            expected = logprobs[len(prompt) - 1 + index, token.id].item()
            assert token.logprob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 1},
        {"top_p": 0.5},
        {"frequency_penalty": 1.0, "repetition_penalty": 1.5},
        {"logit_bias": ((7, 3.0),), "min_p": 0.01},
    ],
)
def test_what_is_drawn_otherwise_has_the_policys_log_probs_too(
    engine: Engine, settings: LearnerSettings, versions: list[str], options: dict[str, Any]
) -> None:
    sampling = Sampling(temperature=0.7, max_tokens=12, seed=3, **options)
    plain = Sampling(temperature=0.7, max_tokens=12, seed=3)
    reply, other = _decode(
        engine, [(PROMPTS[0], versions[0], sampling), (PROMPTS[0], versions[0], plain)]
    )
    assert {token.policy_logprob for token in other} == {None}
    ids = [*PROMPTS[0], *(token.id for token in reply)]
    with torch.no_grad():
        logits = _reference(settings, versions[0])(torch.tensor([ids])).logits[0]
    logprobs = (logits / 0.7).log_softmax(-1)
    for index, token in enumerate(reply):
        expected = logprobs[len(PROMPTS[0]) - 1 + index, token.id].item()
        assert token.policy_logprob == pytest.approx(expected, abs=1e-4)


def test_a_bias_on_a_token_that_there_is_not_is_refused(engine: Engine) -> None:
    with pytest.raises(UnknownTokenError, match="ids of this model end at"):
        _decode(engine, [(PROMPTS[0], BASE, Sampling(max_tokens=2, logit_bias=((10**6, 1.0),)))])


def test_a_seed_gives_the_same_reply_whatever_else_is_in_the_batch(
    engine: Engine, versions: list[str]
) -> None:
    job = (PROMPTS[1], versions[1], Sampling(temperature=1.0, max_tokens=12, seed=42))
    other = (PROMPTS[0], versions[0], Sampling(temperature=1.0, max_tokens=9, seed=7))
    alone = _decode(engine, [job])[0]
    assert [t.id for t in _decode(engine, [other, job, other])[1]] == [t.id for t in alone]
    unseeded = (*job[:2], Sampling(temperature=1.0, max_tokens=12))
    assert [t.id for t in _decode(engine, [unseeded])[0]] != [t.id for t in alone]


def test_the_best_of_one_token_is_the_greedy_one(engine: Engine, versions: list[str]) -> None:
    best = Sampling(temperature=1.0, max_tokens=12, top_k=1)
    drawn, greedy = _decode(engine, [(PROMPTS[0], versions[0], s) for s in (best, GREEDY)])
    assert [t.id for t in drawn] == [t.id for t in greedy]
    assert {t.logprob for t in drawn} == {0.0}


def test_a_cancelled_row_frees_its_slot_and_leaves_the_others_as_they_were(
    engine: Engine, versions: list[str]
) -> None:
    jobs = [(p, versions[0], GREEDY) for p in PROMPTS]
    expected = _decode(engine, jobs)
    rows = []
    for number, (prompt, version, sampling) in enumerate(jobs):
        rows.append(engine.make_row(GenerationRequest(f"c{number}", prompt, version, sampling)))
        engine.scheduler.submit(rows[-1])
    tokens: dict[str, list[int]] = {row.id: [] for row in rows}
    for step in range(100):
        if step == 5:
            engine.cancel("c0")
        for gain in engine.step():
            tokens[gain.row.id].append(gain.token.id)
    assert engine.scheduler.idle
    assert len(tokens["c0"]) < GREEDY.max_tokens
    for number in (1, 2, 3):
        assert tokens[f"c{number}"] == [t.id for t in expected[number]]


def test_what_does_not_fit_the_context_is_refused_with_the_numbers(engine: Engine) -> None:
    request = GenerationRequest("x", tuple(range(120)), BASE, Sampling(max_tokens=20))
    with pytest.raises(PromptTooLongError, match="context is 128 tokens, but 140"):
        engine.make_row(request)


def test_a_second_turn_reuses_the_first_and_is_answered_as_if_it_did_not(
    engine: Engine, versions: list[str], settings: LearnerSettings
) -> None:
    first = tuple(range(30, 75))  # 45 tokens: five blocks of 8 and a part
    reply = _decode(engine, [(first, versions[0], GREEDY)])[0]
    assert engine.reused_tokens_total == 0
    # 45 + 12 tokens, the newest of which was never written: 56 positions, so seven blocks
    second = (*first, *(t.id for t in reply), *range(80, 90))
    model = _reference(settings, versions[0])
    again = _decode(engine, [(second, versions[0], GREEDY)])[0]
    assert engine.reused_tokens_total == 56
    assert [t.id for t in again] == _generate(model, second)
    # now 67 + 12 - 1 = 78 positions are known: nine blocks
    third = (*second, *(t.id for t in again), 7)
    last = _decode(engine, [(third, versions[0], GREEDY)])[0]
    assert engine.reused_tokens_total == 56 + 72
    assert [t.id for t in last] == _generate(model, third)


def test_nothing_is_reused_across_versions_or_after_a_version_is_gone(
    engine: Engine, versions: list[str]
) -> None:
    prompt = tuple(range(30, 75))
    for version in (versions[0], versions[1], BASE):
        _decode(engine, [(prompt, version, GREEDY)])
    assert engine.reused_tokens_total == 0
    weights = engine._bank.adapters[versions[0]]
    engine._bank.retire(versions[0])
    engine._bank.add(versions[0], weights)
    _decode(engine, [(prompt, versions[0], GREEDY)])
    assert engine.reused_tokens_total == 0
    _decode(engine, [(prompt, versions[1], GREEDY)])
    assert engine.reused_tokens_total == 40


def test_a_prompt_of_whole_blocks_leaves_its_last_one_to_compute(engine: Engine) -> None:
    prompt = tuple(range(30, 94))
    first, second = (_decode(engine, [(prompt, BASE, GREEDY)])[0] for _ in range(2))
    assert [t.id for t in second] == [t.id for t in first]
    assert engine.reused_tokens_total == 56


def test_a_row_cancelled_in_mid_prefill_frees_its_slot_and_leaves_what_was_computed(
    engine: Engine, settings: LearnerSettings
) -> None:
    prompt = tuple(range(30, 110))
    engine.scheduler.submit(engine.make_row(GenerationRequest("x", prompt, BASE, GREEDY)))
    for _ in range(3):  # 3 chunks of 16 tokens
        assert engine.step() == []
    engine.cancel("x")
    assert engine.scheduler.idle
    assert (
        _decode(engine, [(prompt, BASE, GREEDY)])[0][0].id
        == _generate(_reference(settings, BASE), prompt)[0]
    )
    assert engine.reused_tokens_total == 48


def test_an_empty_prompt_is_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match="prompt is empty"):
        engine.make_row(GenerationRequest("x", (), BASE, GREEDY))


def test_beside_a_learner_a_step_takes_fewer_threads_and_prompt_tokens(engine: Engine) -> None:
    engine._settings = engine._settings.model_copy(update={"engine_threads": 4})
    for learning, threads, chunk in ((True, 2, 8), (False, 4, 16)):
        engine.adjust_threads(learning=learning)
        assert engine.runner.threads == threads
        engine.scheduler.submit(
            engine.make_row(GenerationRequest("x", tuple(range(40)), BASE, GREEDY))
        )
        assert len(engine.scheduler.plan(lambda *_: 0).chunks) == 1
        assert engine.scheduler.plan(lambda *_: 0).chunks[0].stop == chunk
        engine.cancel("x")
