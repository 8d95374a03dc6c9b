from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedback.errors import TransferError
from feedback.export import reading, writers
from feedback.export.exporting import export_file
from feedback.export.importing import TokenLimits, check_file, import_file
from feedback.export.reading import read_records
from feedback.export.records import as_row, from_row
from feedback.export.writers import ParquetStream, encode_line
from feedback.types import FrozenVote, Person, Vote

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from feedback.export.layouts import Format
    from feedback.store import Store
    from tests.support.store.fixtures import MakeCompletion, MakeRecord, RecordVote

pytestmark = pytest.mark.anyio

VERSION = "v000001-0123456789ab"
ANN = Person("k1", "ann")
BOB = Person("open", "bob: x")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def write(path: Path, *lines: object) -> Path:
    encoded = [each if isinstance(each, bytes) else encode_line(each) for each in lines]  # type: ignore[arg-type]
    path.write_bytes(b"".join(encoded))
    return path


async def everything(raw_redis: Redis) -> dict[str, Any]:
    """Return every key of a Redis with what it holds, as far as a restore brings it back."""
    found: dict[str, Any] = {}
    for key in await raw_redis.keys("tl:*"):
        kind = await raw_redis.type(key)
        read = {"hash": ("HGETALL",), "zset": ("ZRANGE", 0, -1), "string": ("GET",)}.get(kind)
        if read and not key.startswith(("tl:run", "tl:lease", "tl:open")):
            value = await raw_redis.execute_command(read[0], key, *read[1:])
            found[str(key)] = sorted(value) if kind == "zset" else value
    return found


@pytest.fixture
async def lively(store: Store, voted: RecordVote, completion: MakeCompletion) -> None:
    """Record votes of every kind and in every state."""
    for number in range(60):
        person = BOB if number % 4 == 0 else ANN
        await voted(number, Vote(thumb="up" if number % 3 else "down"), person=person)
    waiting = await store.votes.waiting(20)
    frozen = [FrozenVote(vote.completion_id, vote.revision, vote.score) for vote in waiting]
    run = await store.runs.claim(frozen[:10], parent="base", min_votes=1, now=3000.0)
    assert run is not None
    await store.runs.commit(run, version=VERSION, manifest={}, report={}, now=4000.0)
    await store.runs.finish(run, "approved", figures={}, reason="", now=4001.0)
    second = await store.runs.claim(frozen[10:15], parent="base", min_votes=1, now=5000.0)
    assert second is not None
    await store.votes.put(
        "chatcmpl-30", ANN, Vote(rating=0.5, comment="\u2028 no", tags=("a", "b")), -0.8, now=6000.0
    )
    await store.votes.put("chatcmpl-31", ANN, Vote(correction="So: \U0001f642"), None, now=6001.0)
    for number in (70, 71):
        await store.completions.record(completion(number, messages=completion(0).messages))
    await store.votes.compare("chatcmpl-70", "chatcmpl-71", ANN, "why", now=6002.0)
    await store.votes.withdraw("chatcmpl-33", ANN, now=6003.0)
    await store.completions.delete("chatcmpl-34", ANN)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_what_was_exported_comes_back_and_is_exported_alike(
    store: Store, raw_redis: Redis, lively: None, tmp_path: Path, form: Format
) -> None:
    before = await everything(raw_redis)
    await export_file(store, tmp_path / "first.jsonl", "records", "jsonl")
    await export_file(store, tmp_path / "file", "records", form)
    await raw_redis.flushall()
    checked = await asyncio.to_thread(check_file, tmp_path / "file")
    assert (checked.rows, checked.bad) == (62, 0)
    done = await import_file(store, tmp_path / "file")
    assert (done.rows, done.votes, done.there, done.tombstones) == (62, 60, 0, 2)
    assert done.states == {"pending": 50, "learned": 10}

    await export_file(store, tmp_path / "second.jsonl", "records", "jsonl")
    gone = ("withdrawn", "deleted")
    expected = [row for row in rows(tmp_path / "first.jsonl") if row["state"] not in gone]
    for row in expected:
        if row["state"] == "claimed":
            row |= {"state": "pending"}
    assert rows(tmp_path / "second.jsonl") == expected

    after = await everything(raw_redis)
    for key in ("tl:user:k1:ann", "tl:user:open:bob: x", "tl:feedback:ready"):
        lost = {"chatcmpl-33"} if key == "tl:user:k1:ann" else set()
        claimed = {f"chatcmpl-{n}" for n in range(10, 15)} if key.endswith("ready") else set()
        assert set(after[key]) == set(before[key]) - lost | claimed
    for number in (0, 7, 12, 30, 31, 70):
        completion, vote = f"tl:completion:chatcmpl-{number}", f"tl:feedback:chatcmpl-{number}"
        assert after[completion] == before[completion]
        had = before[vote] | ({"state": "pending"} if number == 12 else {})
        # The ledger of runs is not in an export; `logged` is the import's own note.
        ours = {name: value for name, value in after[vote].items() if name != "logged"}
        assert ours == {name: value for name, value in had.items() if name != "run"}
    assert await store.votes.stats() == {
        "up": 39, "down": 20, "unscored": 1, "pending": 49, "claimed": 0, "learned": 10,
        "expired": 0, "discarded": 0,
    }  # fmt: skip


async def test_imported_votes_are_learned_from_and_their_people_can_change_them(
    store: Store, raw_redis: Redis, lively: None, tmp_path: Path
) -> None:
    await export_file(store, tmp_path / "file", "records", "jsonl")
    expected = {vote.completion_id: vote for vote in await store.votes.waiting(100)}
    await raw_redis.flushall()
    await import_file(store, tmp_path / "file")
    waiting = {vote.completion_id: vote for vote in await store.votes.waiting(100)}
    assert len(waiting) == 49
    for completion_id, vote in expected.items():
        assert waiting[completion_id] == vote
    claimed = [FrozenVote(v.completion_id, v.revision, v.score) for v in waiting.values()]
    run = await store.runs.claim(claimed, parent="base", min_votes=49, now=7000.0)
    assert run is not None
    changed = await store.votes.put("chatcmpl-5", ANN, Vote(thumb="down"), -1.0, now=8000.0)
    assert (changed.revision, changed.state) == (2, "pending")
    await store.votes.withdraw("chatcmpl-6", ANN, now=8001.0)
    await store.completions.delete("chatcmpl-7", ANN)
    assert (await store.votes.get("chatcmpl-0", BOB)).state == "learned"


async def test_learned_votes_are_learned_again_on_demand_only(
    store: Store, raw_redis: Redis, lively: None, tmp_path: Path
) -> None:
    await export_file(store, tmp_path / "file", "records", "jsonl")
    await raw_redis.flushall()
    done = await import_file(store, tmp_path / "file", relearn=True)
    assert done.states == {"pending": 60}
    assert await store.votes.count_waiting() == 59
    assert (await store.votes.stats())["learned"] == 0


async def test_what_is_there_is_left_alone_and_a_second_import_goes_on(
    store: Store, raw_redis: Redis, voted: RecordVote, tmp_path: Path
) -> None:
    for number in range(120):
        await voted(number)
    await export_file(store, tmp_path / "file", "records", "jsonl")
    lines = (tmp_path / "file").read_bytes().splitlines(keepends=True)
    await raw_redis.flushall()
    first = await import_file(store, write(tmp_path / "half", *lines[:55]))
    assert (first.votes, first.there) == (55, 0)
    await store.votes.put("chatcmpl-3", ANN, Vote(thumb="down", comment="new"), -1.0, now=9.0)
    again = await import_file(store, tmp_path / "file")
    assert (again.rows, again.votes, again.there) == (120, 65, 55)
    assert (await store.votes.get("chatcmpl-3", ANN)).vote.comment == "new"
    assert await store.votes.count_waiting() == 120
    assert (await store.votes.stats())["pending"] == 120


async def test_a_dry_run_counts_and_writes_nothing(
    store: Store, raw_redis: Redis, voted: RecordVote, tmp_path: Path
) -> None:
    for number in range(3):
        await voted(number)
    await export_file(store, tmp_path / "file", "records", "jsonl")
    await store.completions.delete("chatcmpl-1", ANN)
    before = await everything(raw_redis)
    done = await import_file(store, tmp_path / "file", dry_run=True)
    assert (done.votes, done.there, done.dry_run) == (1, 2, True)
    assert await everything(raw_redis) == before


async def test_a_deleted_vote_that_is_imported_again_is_exported_once(
    store: Store, voted: RecordVote, tmp_path: Path
) -> None:
    await voted(1)
    await export_file(store, tmp_path / "file", "records", "jsonl")
    await store.completions.delete("chatcmpl-1", ANN)
    await import_file(store, tmp_path / "file")
    await export_file(store, tmp_path / "again", "records", "jsonl")
    assert rows(tmp_path / "again") == rows(tmp_path / "file")


async def test_a_vote_without_its_reply_comes_back_for_its_voter(
    store: Store, record: MakeRecord, tmp_path: Path
) -> None:
    gone = replace(record(1, thumb="up", state="expired"), completion=None)
    done = await import_file(store, write(tmp_path / "file", as_row(gone)), relearn=True)
    assert done.states == {"expired": 1}
    found = await store.votes.get("chatcmpl-1", ANN)
    assert (found.state, found.vote.thumb) == ("expired", "up")
    assert await store.votes.count_waiting() == 0


@pytest.mark.parametrize("state", ["pending", "claimed"])
async def test_a_vote_that_would_wait_without_its_reply_has_expired(
    store: Store, record: MakeRecord, tmp_path: Path, state: str
) -> None:
    gone = replace(record(1, thumb="up", state=state), completion=None)
    await import_file(store, write(tmp_path / "file", as_row(gone)))
    assert (await store.votes.get("chatcmpl-1", ANN)).state == "expired"
    assert await store.votes.count_waiting() == 0
    stats = await store.votes.stats()
    assert (stats["expired"], stats["pending"]) == (1, 0)


async def test_times_to_live_begin_anew(
    store: Store, raw_redis: Redis, record: MakeRecord, tmp_path: Path
) -> None:
    await import_file(store, write(tmp_path / "file", as_row(record(1, thumb="up"))))
    day = 24 * 3600
    for key, days in (
        ("tl:completion:chatcmpl-1", 30),
        ("tl:feedback:chatcmpl-1", 60),
        ("tl:user:k1:ann", 90),
    ):
        left = await raw_redis.ttl(key)
        assert days * day - 60 < left <= days * day


async def test_bad_rows_are_told_by_number_and_reason(record: MakeRecord, tmp_path: Path) -> None:
    good = as_row(record(1, thumb="up"))
    path = write(
        tmp_path / "file",
        good,
        b"{half\n",
        b"\n",
        {**good, "owner": "a:b"},
        b'{"id": "chatcmpl-\xff"}\n',
        b"[" * 100_000 + b"\n",
        b"[1]\n",
        encode_line(good)[:-1].replace(b"-0.1", b"NaN") + b"\n",
    )
    checked = await asyncio.to_thread(check_file, path)
    assert (checked.rows, checked.bad) == (7, 6)
    assert [each.row for each in checked.problems] == [2, 4, 5, 6, 7, 8]
    reasons = [each.reason for each in checked.problems]
    assert reasons[0].startswith("no JSON: Expecting property name")
    assert reasons[1].startswith("owner: String should match")
    assert all(reason.startswith("no JSON") for reason in reasons[2:4])
    assert reasons[5].startswith("behaviour_logprobs.0: Input should be a finite number")


async def test_only_the_first_of_many_bad_rows_are_told(tmp_path: Path) -> None:
    checked = await asyncio.to_thread(check_file, write(tmp_path / "f", *[b"x\n"] * 1000))
    assert (checked.bad, len(checked.problems)) == (1000, 20)


async def test_bad_parquet_is_refused(record: MakeRecord, tmp_path: Path) -> None:
    stream = ParquetStream("records")
    row = {**as_row(record(1, thumb="up")), "version": "x"}
    made = stream.write([encode_line(row)]) + stream.close()
    checked = await asyncio.to_thread(check_file, write(tmp_path / "bad", made))
    assert [(each.row, each.reason) for each in checked.problems] == [
        (1, "version: 'x' is not a policy version")
    ]
    with pytest.raises(TransferError, match="not a whole Parquet file"):
        check_file(write(tmp_path / "half", made[:-20]))
    with pytest.raises(TransferError, match="cannot be read"):
        check_file(tmp_path / "nothing")


async def test_parquet_is_read_group_by_group(
    record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "GROUP_ROWS", 10)
    monkeypatch.setattr(reading, "_PARQUET_ROWS", 10)
    draw = random.Random(0)
    stream = ParquetStream("records")
    made = []
    for number in range(200):
        row = as_row(record(number, thumb="up", text=draw.randbytes(30_000).hex()))
        made.append(stream.write([encode_line(row)]))
    path = write(tmp_path / "file", *made, stream.close())
    size = path.stat().st_size
    assert size > 5_000_000  # it hardly compresses
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in read_records(path)]
    assert len(held) == 200
    assert max(held) < size / 2


async def test_a_huge_text_survives(
    store: Store, raw_redis: Redis, voted: RecordVote, tmp_path: Path
) -> None:
    text = "ä\u2028" * 1_000_000
    await voted(1, Vote(correction=text), text=text)
    for form in ("jsonl", "parquet"):
        await export_file(store, tmp_path / form, "records", form)  # type: ignore[arg-type]
        await raw_redis.flushall()
        await import_file(store, tmp_path / form)
    (found,) = await store.completions.get_many(["chatcmpl-1"])
    assert found is not None
    assert found.text == text
    (row,) = rows(tmp_path / "jsonl")
    assert from_row(row).vote == Vote(correction=text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt_ids": [1, 60000, 198]}, "60000 is no token of tiny, whose ids end at 499"),
        ({"response_ids": [500], "behaviour_logprobs": [-1.0]}, "500 is no token of tiny"),
        ({"prompt_ids": [10**24]}, "prompt_ids.0"),
        ({"prompt_ids": [-1]}, "prompt_ids.0"),
        ({"prompt_ids": []}, "prompt_ids"),
        ({"response_ids": [], "behaviour_logprobs": []}, "response_ids"),
        ({"response_ids": [1], "behaviour_logprobs": [0.5]}, "behaviour_logprobs.0"),
        ({"prompt_ids": [1] * 100}, "and tiny reads 64 at most"),
    ],
)
async def test_a_row_that_no_update_could_learn_is_refused_with_its_number(
    record: MakeRecord, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    row = as_row(record(1, thumb="up"))
    limits = TokenLimits("tiny", vocabulary=500, context=64)
    good = write(tmp_path / "good.jsonl", row)
    assert check_file(good, limits=limits).bad == 0
    path = write(tmp_path / "bad.jsonl", row, {**row, "id": "chatcmpl-2", **changes})
    checked = check_file(path, limits=limits)
    (problem,) = checked.problems
    assert (checked.rows, checked.bad, problem.row) == (2, 1, 2)
    assert said in problem.reason


async def test_numbers_beyond_64_bits_do_not_stop_an_export(
    record: MakeRecord, tmp_path: Path
) -> None:
    row = as_row(record(1, thumb="up"))
    sampling = {**row["sampling"], "top_k": 2**63, "seed": -(2**70)}
    stream = ParquetStream("records")
    path = tmp_path / "x.parquet"
    path.write_bytes(
        stream.write([encode_line({**row, "sampling": sampling}), encode_line(row)])
        + stream.close()
    )
    first, second = pq.read_table(path).to_pylist()
    assert (first["sampling"]["top_k"], first["sampling"]["seed"]) == (2**63 - 1, -(2**63))
    assert second["sampling"]["top_k"] == row["sampling"]["top_k"]
