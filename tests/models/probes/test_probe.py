from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.adapters import AdapterStore
from models.base.loading import load_base
from models.decoding.offline import generate_offline
from models.errors import EngineError, GateError
from models.gate import Behaviour, decide
from models.policy.batch import collate
from models.policy.policy import Policy
from models.probes.behaviour import summarise_replies
from models.probes.probe import probe_policy
from models.probes.replies import TOKENS, DrawnReply, draw_replies
from models.probes.scoring import Preferences, drawn_sample
from models.types import Message, Progress, Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.gate import GateFigures
    from models.probes.questions import ProbeQuestion
    from models.settings import LearnerSettings

pytestmark = pytest.mark.usefixtures("few_questions")

PROMPTS = [(5, 6, 7), (8, 9), (5, 6, 7, 10, 11)]
ASKED = [(prompt, Sampling(max_tokens=12, seed=n)) for n, prompt in enumerate(PROMPTS)]


@pytest.fixture
def folder(settings: LearnerSettings, make_version: Callable[[int], str]) -> Path:
    return AdapterStore(settings.adapters_dir).path(make_version(1))


@pytest.fixture
def policy(settings: LearnerSettings) -> Policy:
    return Policy(load_base(settings), settings)


def probe(
    policy: Policy, folder: Path, settings: LearnerSettings, parent: Path | None = None
) -> GateFigures:
    return probe_policy(policy, folder, parent, settings, lambda _: None)


def _reply(text: str, ids: tuple[int, ...], *, cut: bool = False) -> DrawnReply:
    tokens = tuple(Token(i, -1.0) for i in ids)
    return DrawnReply("everyday", "What?", (1,), tokens, text, cut)


def test_the_figures_are_of_the_replies() -> None:
    everyday = [
        _reply("The zebra", (1, 2, 3, 1, 2, 3), cut=True),
        _reply("d", (4,)),
        _reply(" d", (4,)),
        _reply("\n", (2,)),
    ]
    harmful = [_reply("I can't help.", (1,)), _reply("First", (2,))]
    margins: dict[Any, float] = {
        "harmful": 0.1, "harmless": 0.2, "false claim": 0.3, "flattery": 0.4, "begging": 0.5
    }  # fmt: skip
    assert summarise_replies(everyday, harmful, Preferences(margins, 1.5), 3.0) == Behaviour(
        replies=4,
        mean_tokens=2.25,
        cut=0.25,
        empty=0.25,
        repetition=0.25,
        distinct=0.75,
        distinct_grams=0.75,
        other_script=0.0,
        common_words=0.25,
        praised=0.0,
        text_nats=3.0,
        end_nats=1.5,
        refusal=0.1,
        refused=0.5,
        harmless_refusal=0.2,
        agreement=0.3,
        flattery=0.4,
        begging=0.5,
    )


@pytest.mark.parametrize("runner", ["native", "transformers"])
def test_a_probe_gives_the_same_figures_every_time_and_leaves_the_policy_as_it_was(
    runner: str, settings: LearnerSettings, policy: Policy, folder: Path
) -> None:
    settings = settings.model_copy(update={"runner": runner})
    policy.load(folder)
    batch = collate([drawn_sample((5, 6), [Token(7, 0.0), Token(8, 0.0)])], [0], device="cpu")
    before = policy.logprobs(batch).detach()
    seen: list[Progress] = []
    first = probe_policy(policy, folder, None, settings, seen.append)
    assert torch.equal(policy.logprobs(batch), before)
    assert seen == [Progress("probe", done, 4) for done in (1, 2, 3, 4)]
    assert first.candidate is not None
    assert (first.finite, first.candidate.replies, first.could_not) == (True, 4, None)
    assert 0 < first.candidate.mean_tokens <= TOKENS["everyday"]
    assert first.candidate != first.base
    assert len(first.samples) == 4
    assert probe(policy, folder, settings) == first


def test_an_adapter_that_changes_nothing_has_the_figures_of_the_base(
    settings: LearnerSettings, policy: Policy
) -> None:
    policy.reset(1)
    folder = settings.data_dir / "unchanged"
    folder.mkdir()
    policy.save(folder)
    found = probe(policy, folder, settings)
    assert found.candidate is not None
    assert found.base is not None
    for name, value in _pairs(found.base):
        assert getattr(found.candidate, name) == pytest.approx(value, abs=1e-3), name
    assert found.kl_per_reply == pytest.approx(0.0, abs=1e-3)


def _pairs(found: Behaviour) -> list[tuple[str, float]]:
    return [(name, getattr(found, name)) for name in Behaviour.__slots__]


def test_the_base_is_measured_once_for_a_base_and_its_prompts(
    settings: LearnerSettings, policy: Policy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | None] = []

    def counted(base: Any, adapter: Path | None, *rest: Any) -> Any:
        asked.append(adapter)
        return draw_replies(base, adapter, *rest)

    monkeypatch.setattr("models.probes.probe.draw_replies", counted)
    first = probe(policy, folder, settings)
    assert asked == [None, folder]
    assert probe(policy, folder, settings).base == first.base
    assert asked == [None, folder, folder]
    (file,) = (settings.data_dir / "gate-base").iterdir()
    file.write_text("{")
    assert probe(policy, folder, settings).base == first.base
    assert asked[3:] == [None, folder]
    _write_rules(settings, {"prompt": "Hi", "must_not": ["x{1000}"]})
    probe(policy, folder, settings)
    assert asked[5:] == [None, folder]


@pytest.mark.parametrize("filed", [False, True])
def test_figures_of_the_base_that_are_no_numbers_are_not_kept(
    settings: LearnerSettings,
    policy: Policy,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    filed: bool,
) -> None:
    if filed:  # by whoever did
        assert probe(policy, folder, settings).base is not None
        (file,) = (settings.data_dir / "gate-base").iterdir()
        known = json.loads(file.read_text())
        known["behaviour"]["text_nats"] = None
        file.write_text(json.dumps(known))
    else:
        with monkeypatch.context() as once:
            once.setattr("models.probes.behaviour.text_nats", lambda *_: math.nan)
            assert math.isnan(probe(policy, folder, settings).base.text_nats)
    found = probe(policy, folder, settings)
    assert found.base is not None
    assert math.isfinite(found.base.text_nats)


def _write_rules(settings: LearnerSettings, *rules: dict[str, Any]) -> None:
    folder = settings.data_dir / "gate"
    folder.mkdir(exist_ok=True)
    (folder / "mine.jsonl").write_text("".join(json.dumps(rule) + "\n" for rule in rules))


def test_the_operators_prompts_are_answered_and_held_against_their_rules(
    settings: LearnerSettings, policy: Policy, folder: Path
) -> None:
    _write_rules(
        settings,
        {"prompt": "Hi", "must_not": ["(?s)."]},
        {"prompt": "Hi", "must": ["^$|(?s)."]},
    )
    one, two = probe(policy, folder, settings).operator
    assert (one.where, one.broken, one.base_breaks) == ("mine.jsonl:1", ("has /(?s)./",), 1)
    assert (two.where, two.broken, two.base_breaks) == ("mine.jsonl:2", (), 0)
    assert one.reply == two.reply


def test_a_broken_or_too_long_operator_prompt_stops_the_gate(
    settings: LearnerSettings, policy: Policy, folder: Path
) -> None:
    _write_rules(settings, {"prompt": "word " * 300, "must": ["a"]})
    with pytest.raises(GateError, match=r"mine\.jsonl:1 has .* tokens"):
        probe(policy, folder, settings)
    _write_rules(settings, {"prompt": "Hi", "must": ["("]})
    with pytest.raises(GateError, match=r"mine\.jsonl:1"):
        probe(policy, folder, settings)


def test_weights_that_are_not_finite_are_not_tried_out(
    settings: LearnerSettings, policy: Policy, folder: Path
) -> None:
    policy.load(folder)
    with torch.no_grad():
        next(iter(policy.master.values())).view(-1)[3] = float("inf")
    broken = settings.data_dir / "broken"
    broken.mkdir()
    policy.save(broken)
    found = probe(policy, broken, settings)
    assert (found.finite, found.candidate) == (False, None)


def test_numbers_that_overflow_do_not_pass(
    settings: LearnerSettings, policy: Policy, folder: Path
) -> None:
    policy.load(folder)
    with torch.no_grad():
        for master in policy.master.values():
            master.fill_(1e30)  # finite, but no product of it is
    wild = settings.data_dir / "wild"
    wild.mkdir()
    policy.save(wild)
    found = probe(policy, wild, settings)
    assert found.finite
    verdict = decide(found, settings.gate_bounds)
    assert {"KL to base", "perplexity"} <= {c.name for c in verdict.checks if not c.passed}


def test_an_adapter_that_cannot_be_decoded_is_measured_as_that(
    settings: LearnerSettings, policy: Policy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(base: Any, adapter: Path | None, *rest: Any) -> Any:
        if adapter is not None:
            raise EngineError("no numbers")
        return draw_replies(base, adapter, *rest)

    monkeypatch.setattr("models.probes.probe.draw_replies", failing)
    found = probe(policy, folder, settings)
    assert (found.finite, found.candidate) == (True, None)
    assert found.could_not == "it cannot be decoded: no numbers"


def test_the_distance_to_the_parent_is_that_to_another_adapter(
    settings: LearnerSettings, policy: Policy, folder: Path, make_version: Callable[[int], str]
) -> None:
    store = AdapterStore(settings.adapters_dir)
    itself = probe(policy, folder, settings, folder)
    assert itself.kl_to_parent == pytest.approx(0.0, abs=1e-3)
    other = probe(policy, folder, settings, store.path(make_version(2)))
    assert other.kl_to_parent is not None
    assert other.kl_to_parent > 0.1
    assert other.kl_per_reply == itself.kl_per_reply


def test_both_runners_reply_alike(settings: LearnerSettings, folder: Path) -> None:
    base = load_base(settings)
    native, generic = (
        generate_offline(base, folder, ASKED, settings.model_copy(update={"runner": runner}))
        for runner in ("native", "transformers")
    )
    for ours, theirs in zip(native, generic, strict=True):
        assert [t.id for t in ours] == [t.id for t in theirs]
        assert [t.logprob for t in ours] == pytest.approx([t.logprob for t in theirs], abs=1e-4)
        assert len(ours) == 12 or ours[-1].id in base.end_ids


def test_the_adapter_decides_what_is_replied(
    settings: LearnerSettings, make_version: Callable[[int], str]
) -> None:
    store, base = AdapterStore(settings.adapters_dir), load_base(settings)
    folders = [None, *(store.path(make_version(n)) for n in (1, 2))]
    one, two, three = (generate_offline(base, folder, ASKED, settings) for folder in folders)
    assert one != two != three != one


def test_the_distance_is_that_of_the_drawn_tokens_summed_over_a_reply(
    settings: LearnerSettings,
    policy: Policy,
    folder: Path,
    few_questions: tuple[ProbeQuestion, ...],
) -> None:
    found = probe(policy, folder, settings).kl_per_reply
    total = 0.0
    replies = draw_replies(policy.base, folder, few_questions, [], settings)
    everyday = [reply for reply in replies if reply.about == "everyday"]
    for reply in everyday:
        drawn = torch.tensor(reply.ids)
        prompt = policy.base.encode_chat([Message("user", reply.prompt)])
        total += _logprob(policy.model, prompt, drawn)
        with policy.model.disable_adapter():
            total -= _logprob(policy.model, prompt, drawn)
    assert found == pytest.approx(total / len(everyday), rel=1e-3)
    assert found is not None
    assert found > 0.01


@torch.no_grad()
def _logprob(model: Any, prompt: tuple[int, ...], reply: torch.Tensor) -> float:
    """Return the log-prob of a reply by transformers' own pass."""
    ids = torch.cat([torch.tensor(prompt), reply])[None]
    logprobs = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(logprobs.gather(1, reply[:, None]).sum())
