"""Replies that are held to a JSON schema are valid, whatever the model would rather say."""

from __future__ import annotations

import json
import math
from random import Random
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from models.base.loading import load_base
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.grammars import Grammars
from models.decoding.runners import make_runner
from models.errors import GrammarError
from models.types import BASE, GenerationRequest, Sampling
from tests.support.models.json_schemas import random_schema

if TYPE_CHECKING:
    from models.base.loading import Base
    from models.settings import LearnerSettings
    from models.types import Token

PROMPT = tuple(range(5, 12))


@pytest.fixture
def base(settings: LearnerSettings) -> Base:
    return load_base(settings)


@pytest.fixture
def grammars(base: Base) -> Grammars:
    vocabulary = base.model.get_output_embeddings().weight.shape[0]
    return Grammars(base.tokenizer, vocabulary, base.end_ids)


@pytest.fixture(params=["native", "transformers"])
def engine(request: pytest.FixtureRequest, settings: LearnerSettings, base: Base) -> Engine:
    if request.param == "native" and settings.runner == "transformers":
        pytest.skip("this machine has no compiler")
    settings = settings.model_copy(update={"runner": request.param, "context_length": 256})
    return Engine(base, make_runner(base, settings), AdapterBank(), settings)


def _decode(
    engine: Engine, grammars: Grammars, schemas: list[dict[str, Any] | None], **sampling: Any
) -> list[list[Token]]:
    options = {"max_tokens": 240, "seed": 1, **sampling}
    for number, schema in enumerate(schemas):
        request = GenerationRequest(str(number), PROMPT, BASE, Sampling(**options), choice=number)
        matcher = None if schema is None else grammars.matcher(json.dumps(schema))
        engine.scheduler.submit(engine.make_row(request, matcher))
    tokens: list[list[Token]] = [[] for _ in schemas]
    while not engine.scheduler.idle:
        for new in engine.step():
            tokens[int(new.row.id)].append(new.token)
    return tokens


def _text(base: Base, tokens: list[Token]) -> str:
    ids = [token.id for token in tokens if token.id not in base.end_ids]
    return str(base.tokenizer.decode(ids))


@pytest.mark.parametrize("seed", range(25))
def test_replies_are_valid_whatever_the_schema(
    settings: LearnerSettings, base: Base, grammars: Grammars, seed: int
) -> None:
    random = Random(seed)
    schemas = [random_schema(random, depth=1) for _ in range(8)]  # 200 in all, eight in one batch
    settings = settings.model_copy(update={"max_queue_per_user": 8, "context_length": 256})
    engine = Engine(base, make_runner(base, settings), AdapterBank(), settings)
    for schema, reply in zip(schemas, _decode(engine, grammars, list(schemas)), strict=True):
        assert reply[-1].id in base.end_ids, schema
        jsonschema.validate(json.loads(_text(base, reply)), schema)


SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "tag": {"enum": ["a", "bc"]}},
    "required": ["ok", "tag"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 0.0}, {"top_p": 0.5}, {"frequency_penalty": 2.0}]
)
def test_log_probs_are_of_what_the_grammar_leaves(
    engine: Engine, grammars: Grammars, base: Base, sampling: dict[str, Any]
) -> None:
    (reply,) = _decode(engine, grammars, [SCHEMA], **sampling)
    jsonschema.validate(json.loads(_text(base, reply)), SCHEMA)
    assert any(token.forced for token in reply)
    assert not all(token.forced for token in reply)
    for token in reply:
        assert token.policy_logprob is not None
        if token.forced:
            assert token.logprob == pytest.approx(0.0, abs=1e-6)
        if not sampling:
            assert token.logprob >= token.policy_logprob - 1e-6
        assert math.isfinite(token.policy_logprob)


def test_an_object_of_a_thousand_optional_properties_is_held(
    engine: Engine, grammars: Grammars, base: Base
) -> None:
    properties = {f"p{number}": {"type": "boolean"} for number in range(1000)}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    (reply,) = _decode(engine, grammars, [schema], max_tokens=60)
    if reply[-1].id in base.end_ids:
        jsonschema.validate(json.loads(_text(base, reply)), schema)
    else:
        assert _text(base, reply).startswith('{"p')


def test_a_reply_whose_grammar_is_given_up_does_not_pass_for_whole(
    engine: Engine, grammars: Grammars, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher = grammars.matcher(json.dumps(SCHEMA))
    monkeypatch.setattr(matcher, "_matcher", _GivenUp())
    request = GenerationRequest("r", PROMPT, BASE, Sampling(max_tokens=40, seed=1))
    engine.scheduler.submit(engine.make_row(request, matcher))
    reasons = []
    while not engine.scheduler.idle:
        reasons += [(new.token.id, new.finish_reason) for new in engine.step()]
    ((token, reason),) = reasons
    assert token in base.end_ids
    assert reason == "length"


class _GivenUp:
    """llguidance's matcher after it ran into its limits."""

    def is_error(self) -> bool:
        return True

    def is_stopped(self) -> bool:
        return True

    def consume_token(self, _: int) -> bool:
        return False


def test_a_grammar_is_no_matter_to_other_rows(engine: Engine, grammars: Grammars) -> None:
    alone = _decode(engine, grammars, [None], max_tokens=20)[0]
    beside = _decode(engine, grammars, [None, SCHEMA, SCHEMA], max_tokens=20)[0]
    assert [t.id for t in beside] == [t.id for t in alone]
    assert {t.policy_logprob for t in beside} == {None}
    assert not any(t.forced for t in beside)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ('{"type": "objct"}', "objct"),
        ('{"$ref": "https://example.org/x.json"}', "retriev"),
        ('{"type": "string", "pattern": "("}', "held"),
        ("not json", "held"),
        ("false", "held"),
    ],
)
def test_a_schema_that_cannot_be_held_says_why(grammars: Grammars, schema: str, said: str) -> None:
    with pytest.raises(GrammarError, match=said):
        grammars.matcher(schema)
