from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx
    from redis.asyncio import Redis

    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import RunningApp, StartApp

pytestmark = pytest.mark.anyio


@pytest.fixture
async def completion_id(running: RunningApp) -> str:
    body = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}], "user": "ann"}
    return (await running.client.post("/v1/chat/completions", json=body)).json()["id"]


async def put(running: RunningApp, completion_id: str, **vote: Any) -> httpx.Response:
    return await running.client.put(f"/v1/feedback/{completion_id}", json={"user": "ann", **vote})


async def test_a_thumb_is_kept_and_can_be_read(running: RunningApp, completion_id: str) -> None:
    answer = await put(running, completion_id, thumb="up", comment="Nice.", tags=["short"])
    assert answer.status_code == 200
    vote = answer.json()
    assert vote.pop("updated_at") > 0
    assert vote == {
        "completion_id": completion_id,
        "thumb": "up",
        "rating": None,
        "comparison": None,
        "comment": "Nice.",
        "tags": ["short"],
        "correction": None,
        "score": 1.0,
        "revision": 1,
        "state": "pending",
        "version": None,
        "reason": None,
    }
    read = await running.client.get(f"/v1/feedback/{completion_id}", params={"user": "ann"})
    assert read.json() == answer.json()


async def test_the_same_vote_again_changes_nothing(running: RunningApp, completion_id: str) -> None:
    first = await put(running, completion_id, thumb="down")
    again = await put(running, completion_id, thumb="down")
    assert again.json() == first.json()


async def test_a_new_vote_replaces_the_old_one_wholly(
    running: RunningApp, completion_id: str
) -> None:
    await put(running, completion_id, thumb="up", comment="Nice.")
    answer = (await put(running, completion_id, rating=0.5)).json()
    assert answer["thumb"] is None
    assert answer["comment"] is None
    assert answer["score"] == pytest.approx(-0.8)
    assert answer["revision"] == 2


async def test_a_comment_alone_is_no_vote_to_learn_from(
    running: RunningApp, completion_id: str, store: Store
) -> None:
    answer = (await put(running, completion_id, comment="Hm.")).json()
    assert answer["score"] is None
    assert await store.votes.count_waiting() == 0


async def test_a_vote_can_be_withdrawn(
    running: RunningApp, completion_id: str, store: Store
) -> None:
    await put(running, completion_id, thumb="up")
    url = f"/v1/feedback/{completion_id}"
    answer = await running.client.delete(url, params={"user": "ann"})
    assert answer.json() == {"completion_id": completion_id, "withdrawn": True}
    assert await store.votes.count_waiting() == 0
    assert (await running.client.get(url, params={"user": "ann"})).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
async def test_somebody_elses_completion_is_as_unknown_as_one_that_never_was(
    running: RunningApp, completion_id: str, method: str
) -> None:
    await put(running, completion_id, thumb="up")
    answers = []
    for name in (completion_id, "chatcmpl-none"):
        in_body = {"json": {"thumb": "up", "user": "bob"}}
        who = in_body if method == "PUT" else {"params": {"user": "bob"}}
        answer = await running.client.request(method, f"/v1/feedback/{name}", **who)
        assert answer.status_code == 404
        answers.append(answer.text.replace(name, "ID"))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "vote",
    [
        {},
        {"thumb": "up", "rating": 4},
        {"thumb": "sideways"},
        {"rating": 2.7},
        {"rating": 6},
        {"rating": True},
        {"rating": "4"},
        {"thumb": "up", "stars": 3},
        {"thumb": "up", "comment": "x" * 4001},
        {"thumb": "up", "tags": ["x"] * 17},
        {"thumb": "up", "tags": "x"},
    ],
)
async def test_a_vote_that_makes_no_sense_is_refused(
    running: RunningApp, completion_id: str, store: Store, vote: Any
) -> None:
    answer = await put(running, completion_id, **vote)
    assert answer.status_code == 400
    assert await store.votes.count_waiting() == 0


async def test_of_a_hundred_racing_votes_one_stands_the_last(
    running: RunningApp, completion_id: str, store: Store
) -> None:
    answers = await asyncio.gather(
        *(
            put(running, completion_id, thumb="up" if i % 3 else "down", comment=str(i))
            for i in range(100)
        )
    )
    votes = [answer.json() for answer in answers]
    assert sorted(vote["revision"] for vote in votes) == list(range(1, 101))
    last = max(votes, key=lambda vote: vote["revision"])
    url = f"/v1/feedback/{completion_id}"
    assert (await running.client.get(url, params={"user": "ann"})).json() == last
    stats = await store.votes.stats()
    up = int(last["thumb"] == "up")
    assert (stats["up"], stats["down"], stats["pending"]) == (up, 1 - up, 1)
    base = await store.versions.get("base")
    assert (base.up, base.down) == (up, 1 - up)
    assert await store.votes.count_waiting() == 1


async def test_rewards_follow_the_settings(
    service_settings: ServiceSettings, generator: FakeGenerator, store: Store, start_app: StartApp
) -> None:
    settings = service_settings.model_copy(update={"reward_down": -0.5, "rating_neutral": 3.0})
    async with start_app(settings, generator, store) as running:
        body = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}], "user": "ann"}
        reply = (await running.client.post("/v1/chat/completions", json=body)).json()["id"]
        assert (await put(running, reply, thumb="down")).json()["score"] == -0.5
        assert (await put(running, reply, rating=4)).json()["score"] == 0.5


async def test_a_vote_whose_reply_expired_can_be_read_and_withdrawn(
    running: RunningApp, completion_id: str, store: Store, raw_redis: Redis
) -> None:
    await put(running, completion_id, thumb="up")
    await raw_redis.delete(f"tl:completion:{completion_id}")
    url, ann = f"/v1/feedback/{completion_id}", {"user": "ann"}
    vote = (await running.client.get(url, params=ann)).json()
    assert vote["state"] == "expired"
    assert vote["reason"] == "The reply expired before an update could learn from this vote."
    assert (await running.client.get(url, params={"user": "bob"})).status_code == 404
    refused = await put(running, completion_id, thumb="down")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "completion_not_found")
    assert (await running.client.delete(url, params=ann)).status_code == 200
    assert (await running.client.get(url, params=ann)).status_code == 404


async def test_votes_are_counted_by_kind(running: RunningApp, completion_id: str) -> None:
    await put(running, completion_id, thumb="up")
    await put(running, completion_id, rating=4)
    figures = (await running.client.get("/metrics")).text
    assert 'thumbloop_votes_total{kind="up"} 1.0' in figures
    assert 'thumbloop_votes_total{kind="rating"} 1.0' in figures
