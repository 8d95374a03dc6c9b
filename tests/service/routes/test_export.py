from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import RunningApp, SayHi, StartApp

pytestmark = pytest.mark.anyio

PATH = "/admin/feedback/export"


@pytest.fixture
async def voted(running: RunningApp, chat: SayHi) -> list[str]:
    """Chat and vote 150 times: more than is read at a time."""
    ids = []
    for number in range(150):
        reply = (await chat(running, user="ann")).json()
        vote = {"thumb": "up" if number % 2 else "down", "comment": "\u2028", "user": "ann"}
        await running.client.put(f"/v1/feedback/{reply['id']}", json=vote)
        ids.append(reply["id"])
    return ids


async def test_votes_stream_as_lines(running: RunningApp, voted: list[str], store: Store) -> None:
    answer = await running.client.get(PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.headers["content-disposition"] == 'attachment; filename="feedback-records.jsonl"'
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["id"] for row in rows] == voted
    assert rows[0]["owner"] == "open"
    assert rows[0]["user"] == "ann"
    assert rows[0]["behaviour_logprobs"]
    # Nobody knows whether the client has it: the log is not trimmed for it.
    assert await store.log.exported() is None

    until = answer.headers["x-export-until"]
    assert until == await store.log.last_id()
    await running.client.delete(f"/v1/feedback/{voted[3]}?user=ann")
    later = await running.client.get(PATH, params={"since": until})
    (row,) = [json.loads(line) for line in later.text.splitlines()]
    assert (row["id"], row["state"]) == (voted[3], "withdrawn")


async def test_votes_stream_as_parquet(running: RunningApp, voted: list[str]) -> None:
    answer = await running.client.get(PATH, params={"format": "parquet", "layout": "kto"})
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.column_names == ["prompt", "completion", "label"]
    assert table["label"].to_pylist() == [bool(number % 2) for number in range(150)]


async def test_nothing_is_a_whole_file_too(running: RunningApp) -> None:
    assert (await running.client.get(PATH)).text == ""
    answer = await running.client.get(PATH, params={"format": "parquet"})
    assert pq.read_table(io.BytesIO(answer.content)).num_rows == 0


@pytest.mark.parametrize(
    ("name", "value"), [("format", "csv"), ("layout", "dpo"), ("since", "yesterday")]
)
async def test_what_makes_no_sense_is_refused(running: RunningApp, name: str, value: str) -> None:
    answer = await running.client.get(PATH, params={name: value})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name


async def test_only_admins_may(running: RunningApp, store: Store) -> None:
    _, key = await store.keys.create("chat only", frozenset({"chat"}), now=1.0)
    await running.runtime.authenticator.refresh()
    assert (await running.client.get(PATH)).status_code == 401
    answer = await running.client.get(PATH, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 403


async def test_redis_away_is_a_clear_answer(
    start_app: StartApp, service_settings: ServiceSettings, generator: FakeGenerator, away: Store
) -> None:
    async with start_app(service_settings, generator, away, started=False) as running:
        answer = await running.client.get(PATH)
        assert answer.status_code == 503
