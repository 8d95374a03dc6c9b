"""Texts that go on with a prompt: decoded, recorded and voted on like replies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from models.types import Message

if TYPE_CHECKING:
    import httpx

    from feedback.store import Store
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import ReadEvents, RunningApp

pytestmark = pytest.mark.anyio


async def _ask(running: RunningApp, **fields: Any) -> httpx.Response:
    body = {"model": "policy", "prompt": "Once", **fields}
    return await running.client.post("/v1/completions", json=body)


async def test_a_text_has_openais_shape_and_can_be_voted_on(
    running: RunningApp, generator: FakeGenerator, store: Store
) -> None:
    response = await _ask(running, prompt=["Once"], user="ann")
    reply = response.json()
    assert (reply["object"], response.headers["x-policy-version"]) == ("text_completion", "base")
    (choice,) = reply["choices"]
    assert (choice["text"], choice["finish_reason"], choice["logprobs"]) == (
        "I am base",
        "stop",
        None,
    )
    assert reply["usage"] == {"prompt_tokens": 4, "completion_tokens": 10, "total_tokens": 14}
    assert generator.requests[0].prompt_ids == tuple(map(ord, "Once"))
    assert generator.requests[0].sampling.max_tokens == 16
    record = await store.completions.get(reply["id"])
    assert record is not None
    assert record.messages == (Message("user", "Once"),)
    vote = await running.client.put(
        f"/v1/feedback/{choice['completion_id']}", json={"thumb": "up", "user": "ann"}
    )
    assert vote.status_code == 200


async def test_texts_are_streamed(running: RunningApp, events: ReadEvents) -> None:
    options = {"stream": True, "n": 2, "stream_options": {"include_usage": True}}
    *chunks, usage, done = events(await _ask(running, **options))
    assert done == "[DONE]"
    texts, ends = ["", ""], 0
    for chunk in map(json.loads, chunks):
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["text"]
        ends += choice["finish_reason"] == "stop"
        assert (choice.get("feedback_token") is not None) == (choice["finish_reason"] == "stop")
    assert (texts, ends) == (["I am base"] * 2, 2)
    assert json.loads(usage)["usage"]["completion_tokens"] == 20


async def test_log_probs_are_in_lists(running: RunningApp, events: ReadEvents) -> None:
    found = (await _ask(running, logprobs=2)).json()["choices"][0]["logprobs"]
    assert found["tokens"][:3] == ["I", " ", "a"]
    assert found["text_offset"][:3] == [0, 1, 2]
    assert found["token_logprobs"][0] == pytest.approx(-0.693, abs=1e-3)
    assert "I" in found["top_logprobs"][0]
    chunks = [
        json.loads(each) for each in events(await _ask(running, logprobs=0, stream=True))[:-1]
    ]
    parts = [each["choices"][0]["logprobs"] for each in chunks]
    tokens = [token for part in parts if part for token in part["tokens"]]
    assert "".join(tokens[:-1]) == "I am base"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"messages": []}, None),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
async def test_what_is_not_spoken_here_is_refused(
    running: RunningApp, fields: dict[str, Any], param: str | None
) -> None:
    response = await _ask(running, **fields)
    if param is None:
        assert response.headers["x-ignored-fields"] == "messages"
        return
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_what_asks_for_nothing_is_taken(running: RunningApp) -> None:
    neutral: dict[str, Any] = {
        "echo": False,
        "suffix": None,
        "best_of": 1,
        "logit_bias": {},
        "user": None,
    }
    assert (await _ask(running, **neutral)).status_code == 200
