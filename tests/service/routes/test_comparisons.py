"""The choice between two replies to one conversation, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import RunningApp, StartApp

pytestmark = pytest.mark.anyio
ANN = {"user": "ann"}


async def ask(running: RunningApp, content: str = "Hi", user: str = "ann", **more: Any) -> Any:
    body = {
        "model": "policy",
        "messages": [{"role": "user", "content": content}],
        "user": user,
        **more,
    }
    return (await running.client.post("/v1/chat/completions", json=body)).json()


@pytest.fixture
async def pair(running: RunningApp) -> tuple[str, str]:
    first, second = (await ask(running, n=2))["choices"]
    return first["completion_id"], second["completion_id"]


async def compare(running: RunningApp, chosen: str, rejected: str, **more: Any) -> httpx.Response:
    body = {"rejected_id": rejected, **ANN, **more}
    return await running.client.put(f"/v1/comparisons/{chosen}", json=body)


async def feedback(running: RunningApp, completion_id: str) -> Any:
    return (await running.client.get(f"/v1/feedback/{completion_id}", params=ANN)).json()


async def test_a_comparison_is_a_vote_on_both_sides(
    running: RunningApp, pair: tuple[str, str], store: Store
) -> None:
    chosen, rejected = pair
    answer = await compare(running, chosen, rejected, comment="Clearer.")
    assert answer.status_code == 200
    found = answer.json()
    assert found["chosen"].pop("updated_at") == found["rejected"].pop("updated_at") > 0
    common: dict[str, object] = {
        "thumb": None,
        "rating": None,
        "comment": "Clearer.",
        "tags": [],
        "correction": None,
        "revision": 1,
        "state": "pending",
        "version": None,
        "reason": None,
    }
    assert found == {
        "chosen_id": chosen,
        "rejected_id": rejected,
        "comment": "Clearer.",
        "whole": True,
        "chosen": common
        | {
            "completion_id": chosen,
            "comparison": {"side": "chosen", "other": rejected},
            "score": 1.0,
        },
        "rejected": common
        | {
            "completion_id": rejected,
            "comparison": {"side": "rejected", "other": chosen},
            "score": -1.0,
        },
    }
    read = await running.client.get(f"/v1/comparisons/{chosen}", params=ANN)
    assert read.json() == answer.json()
    assert await feedback(running, rejected) == answer.json()["rejected"]
    assert await store.votes.count_waiting() == 2


async def test_the_same_comparison_again_changes_nothing(
    running: RunningApp, pair: tuple[str, str]
) -> None:
    first = await compare(running, *pair)
    assert (await compare(running, *pair)).json() == first.json()


async def test_a_later_thumb_replaces_its_side_only(
    running: RunningApp, pair: tuple[str, str]
) -> None:
    chosen, rejected = pair
    await compare(running, chosen, rejected)
    await running.client.put(f"/v1/feedback/{rejected}", json={"thumb": "up", **ANN})
    found = (await running.client.get(f"/v1/comparisons/{chosen}", params=ANN)).json()
    assert found["whole"] is False
    assert found["chosen"]["score"] == 1.0
    assert (found["rejected"]["thumb"], found["rejected"]["score"]) == ("up", 1.0)
    withdrawn = await running.client.delete(f"/v1/comparisons/{chosen}", params=ANN)
    assert withdrawn.json() == {"chosen_id": chosen, "withdrawn": True}
    assert (await feedback(running, rejected))["thumb"] == "up"
    assert (await running.client.get(f"/v1/feedback/{chosen}", params=ANN)).status_code == 404


async def test_without_its_chosen_side_there_is_no_comparison(
    running: RunningApp, pair: tuple[str, str]
) -> None:
    chosen, rejected = pair
    await compare(running, chosen, rejected)
    await running.client.put(f"/v1/feedback/{chosen}", json={"thumb": "up", **ANN})
    for name in (chosen, rejected):
        for method in ("GET", "DELETE"):
            answer = await running.client.request(method, f"/v1/comparisons/{name}", params=ANN)
            assert answer.status_code == 404
            assert "no comparison" in answer.json()["error"]["message"]
    assert (await feedback(running, rejected))["comparison"] == {
        "side": "rejected",
        "other": chosen,
    }


async def test_withdrawing_takes_both_sides_back(
    running: RunningApp, pair: tuple[str, str], store: Store
) -> None:
    await compare(running, *pair)
    url = f"/v1/comparisons/{pair[0]}"
    assert (await running.client.delete(url, params=ANN)).status_code == 200
    assert await store.votes.count_waiting() == 0
    assert set((await store.votes.stats()).values()) == {0}
    assert (await running.client.delete(url, params=ANN)).status_code == 404


async def test_a_withdrawn_side_is_shown_as_none(
    running: RunningApp, pair: tuple[str, str]
) -> None:
    chosen, rejected = pair
    await compare(running, chosen, rejected)
    await running.client.delete(f"/v1/feedback/{rejected}", params=ANN)
    found = (await running.client.get(f"/v1/comparisons/{chosen}", params=ANN)).json()
    assert (found["rejected"], found["rejected_id"], found["whole"]) == (None, rejected, False)


async def test_replies_to_different_messages_cannot_be_compared(
    running: RunningApp, store: Store
) -> None:
    one, other = await ask(running, "Hi"), await ask(running, "Hello")
    answer = await compare(running, one["id"], other["id"])
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "different_prompts")
    assert await store.votes.count_waiting() == 0


async def test_replies_of_two_requests_with_the_same_messages_can(running: RunningApp) -> None:
    one, other = await ask(running), await ask(running)
    assert (await compare(running, one["id"], other["id"])).status_code == 200


async def test_a_reply_is_not_compared_with_itself(
    running: RunningApp, pair: tuple[str, str]
) -> None:
    answer = await compare(running, pair[0], pair[0])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_vote")


async def test_somebody_elses_reply_is_as_unknown_as_one_that_never_was(
    running: RunningApp, pair: tuple[str, str], store: Store
) -> None:
    bobs = (await ask(running, user="bob"))["id"]
    mine = pair[0]
    answers = []
    for chosen, rejected, odd in (
        (mine, bobs, bobs),
        (mine, "chatcmpl-none", "chatcmpl-none"),
        (bobs, mine, bobs),
        ("chatcmpl-none", mine, "chatcmpl-none"),
    ):
        answer = await compare(running, chosen, rejected)
        assert answer.status_code == 404
        answers.append(answer.text.replace(odd, "ID"))
    assert len(set(answers)) == 1
    assert '"completion_not_found"' in answers[0]
    assert await store.votes.count_waiting() == 0
    await compare(running, *pair)
    bob = {"user": "bob"}
    for method in ("GET", "DELETE"):
        gone = await running.client.request(method, "/v1/comparisons/chatcmpl-none", params=bob)
        other = await running.client.request(method, f"/v1/comparisons/{mine}", params=bob)
        assert (gone.status_code, other.status_code) == (404, 404)
        assert gone.text.replace("chatcmpl-none", "ID") == other.text.replace(mine, "ID")


async def test_a_reply_that_was_not_recorded_says_so(running: RunningApp) -> None:
    kept, unkept = await ask(running), await ask(running, store=False)
    for chosen, rejected in ((kept["id"], unkept["id"]), (unkept["id"], kept["id"])):
        answer = await compare(running, chosen, rejected)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_recorded")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"rejected_id": ""},
        {"rejected_id": 7},
        {"rejected_id": "x", "thumb": "up"},
        {"rejected_id": "x", "comment": "y" * 4001},
    ],
)
async def test_a_comparison_that_makes_no_sense_is_refused(
    running: RunningApp, pair: tuple[str, str], body: Any
) -> None:
    answer = await running.client.put(f"/v1/comparisons/{pair[0]}", json=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "code", "param"}


async def test_comparisons_answer_503_while_redis_is_away(
    service_settings: ServiceSettings, generator: FakeGenerator, away: Store, start_app: StartApp
) -> None:
    async with start_app(service_settings, generator, away) as running:
        for answer in (
            await compare(running, "a", "b"),
            await running.client.get("/v1/comparisons/a", params=ANN),
            await running.client.delete("/v1/comparisons/a", params=ANN),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                503,
                "store_unavailable",
            )


async def test_comparisons_are_counted(running: RunningApp, pair: tuple[str, str]) -> None:
    await compare(running, *pair)
    figures = (await running.client.get("/metrics")).text
    assert 'thumbloop_votes_total{kind="comparison"} 1.0' in figures
