"""Token ids of texts and texts of token ids, as vLLM's clients ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.service.application import RunningApp

pytestmark = pytest.mark.anyio


async def test_a_text_and_messages_become_tokens(running: RunningApp) -> None:
    text = await running.client.post("/tokenize", json={"model": "policy", "prompt": "Hi"})
    assert text.json() == {
        "tokens": [72, 105],
        "count": 2,
        "max_model_len": 200,
        "token_strs": None,
    }
    messages = [{"role": "user", "content": "Hi"}]
    body = {"messages": messages, "return_token_strs": True, "prompt": None}
    assert (await running.client.post("/tokenize", json=body)).json()["token_strs"] == ["H", "i"]


async def test_tokens_become_a_text(running: RunningApp) -> None:
    answer = await running.client.post("/detokenize", json={"model": "m", "tokens": [72, 105]})
    assert answer.json() == {"prompt": "Hi"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}]}),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": "Hi"}),
    ],
)
async def test_what_makes_no_sense_is_refused(
    running: RunningApp, path: str, body: dict[str, Any]
) -> None:
    assert (await running.client.post(path, json=body)).status_code == 400


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/audio/speech", "/v1/chat"])
async def test_another_route_of_openais_says_what_is_spoken_here(
    running: RunningApp, path: str
) -> None:
    answer = await running.client.post(path, json={})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "not_found"
    assert path in error["message"]
    assert "/v1/chat/completions" in error["message"]
