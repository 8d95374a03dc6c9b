from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from feedback.errors import StoreUnavailableError, TransferError
from feedback.export import exporting
from feedback.export.exporting import begin, chunks, export_file
from feedback.export.files import PartFile
from feedback.types import Comparison, Vote
from models.types import Message

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from feedback.export.layouts import Format, Layout
    from feedback.store import Store
    from tests.support.store.fixtures import MakeCompletion, RecordVote

pytestmark = pytest.mark.anyio

MANY = 350


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
async def many(store: Store, voted: RecordVote) -> None:
    """Record 350 votes, some changed, withdrawn, deleted, and with corrections."""
    votes = []
    for number in range(MANY):
        correction = "Better." if number % 11 == 0 else None
        votes.append(
            voted(number, Vote(thumb="up" if number % 3 else "down", correction=correction))
        )
    ids = await asyncio.gather(*votes)
    (first,) = await store.completions.get_many(ids[:1])
    assert first is not None
    put, person, later = store.votes.put, first.person, 9000.0
    await asyncio.gather(*[store.votes.withdraw(each, person, now=later) for each in ids[::10]])
    await asyncio.gather(*[store.completions.delete(each, person) for each in ids[5::50]])
    vote = Vote(rating=4.5)
    await asyncio.gather(*[put(each, person, vote, 0.8, now=later) for each in ids[2::50]])


async def test_every_vote_is_exported_once_as_it_stands(
    store: Store, many: None, tmp_path: Path
) -> None:
    seen: list[int] = []
    out = tmp_path / "out.jsonl"
    done = await export_file(
        store, out, "records", "jsonl", progress=lambda cursor: seen.append(cursor.events)
    )
    found = rows(out)
    assert done.rows == len(found) == MANY
    assert len({row["id"] for row in found}) == MANY
    states = [row["state"] for row in found]
    assert states.count("withdrawn") == 35
    assert states.count("deleted") == 7
    assert [row["rating"] for row in found].count(4.5) == 7
    assert done.events == await store.log.size() == MANY + 35 + 7 + 7
    assert seen == [100, 200, 300, done.events]
    assert done.until == await store.log.last_id()
    assert out.stat().st_mode & 0o777 == 0o600
    assert left_over(tmp_path) == ["out.jsonl"]


async def test_the_mark_rises_after_a_whole_export_of_records_only(
    store: Store, voted: RecordVote, tmp_path: Path
) -> None:
    await voted(1)
    assert not (await export_file(store, tmp_path / "k", "kto", "jsonl")).marked
    assert await store.log.exported() is None
    first = await export_file(store, tmp_path / "a", "records", "jsonl")
    assert first.marked
    assert await store.log.exported() == first.until
    await voted(2)
    second = await export_file(store, tmp_path / "b", "records", "jsonl", since=first.until)
    assert second.marked
    assert [row["id"] for row in rows(tmp_path / "b")] == ["chatcmpl-2"]
    assert await store.log.exported() == second.until
    await voted(3)
    middle = await store.log.last_id()
    await voted(4)
    gap = await export_file(store, tmp_path / "c", "records", "jsonl", since=middle)
    assert not gap.marked
    assert await store.log.exported() == second.until


async def test_a_vote_that_changes_meanwhile_is_in_the_next_export(
    store: Store, voted: RecordVote
) -> None:
    for number in range(3):
        await voted(number)
    cursor = await begin(store, "records")
    await voted(1, Vote(thumb="down", comment="changed"))
    lines = [line async for made, _ in chunks(store, cursor) for line in made]
    assert [json.loads(line)["id"] for line in lines] == ["chatcmpl-0", "chatcmpl-2"]
    later = await begin(store, "records", cursor.until)
    lines = [line async for made, _ in chunks(store, later) for line in made]
    assert [json.loads(line)["comment"] for line in lines] == ["changed"]


async def test_pairs_come_from_comparisons_corrections_and_opposite_votes(
    store: Store, voted: RecordVote, tmp_path: Path, completion: MakeCompletion
) -> None:
    prompt = (Message("user", "Q"),)
    for number, text in enumerate(("good", "bad", "up", "down", "wrong", "alone")):
        await store.completions.record(
            completion(
                number, text=text, messages=prompt if number < 5 else (Message("user", "R"),)
            )
        )
    person = completion(0).person
    await store.votes.compare("chatcmpl-0", "chatcmpl-1", person, now=1.0)
    await store.votes.put("chatcmpl-2", person, Vote(thumb="up"), 1.0, now=2.0)
    await store.votes.put("chatcmpl-4", person, Vote(correction="right"), None, now=3.0)
    await store.votes.put("chatcmpl-3", person, Vote(rating=1.0), -0.6, now=4.0)
    await store.votes.put("chatcmpl-5", person, Vote(thumb="down"), -1.0, now=5.0)
    await export_file(store, tmp_path / "out", "preference", "jsonl")
    pairs = [
        (r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in rows(tmp_path / "out")
    ]
    assert pairs == [("good", "bad"), ("right", "wrong"), ("up", "down")]
    compared = await store.votes.get("chatcmpl-1", person)
    assert compared.vote.comparison == Comparison("rejected", "chatcmpl-0")


@pytest.mark.parametrize(
    ("layout", "form"),
    [("records", "jsonl"), ("records", "parquet"), ("preference", "jsonl")],
)
async def test_a_killed_export_goes_on_and_ends_as_if_nothing_had_been(
    store: Store, many: None, redis_url: str, tmp_path: Path, layout: Layout, form: Format
) -> None:
    expected = tmp_path / "whole"
    whole = await export_file(store, expected, layout, form)
    out = tmp_path / "out"
    kills = 0
    while not out.exists():
        code = export_and_die(redis_url, out, layout, form)
        if code == 0:
            break
        assert code == -9
        assert not out.exists()
        kills += 1
        with (tmp_path / "out.part").open("ab") as part:
            part.write(b'{"cut off in the middl')
    assert kills == 3
    assert out.read_bytes() == expected.read_bytes()
    assert left_over(tmp_path) == ["out", "whole"]
    if form == "parquet":
        assert pq.read_metadata(out).num_rows == whole.rows
    assert await store.log.exported() == (whole.until if layout == "records" else None)


def export_and_die(redis_url: str, out: Path, layout: str, form: str) -> int:
    """Go on with an export in a process that kills itself after the next piece but the last."""
    program = f"""
import asyncio, os, signal
from pathlib import Path
from feedback.export import exporting
from feedback.export.exporting import export_file
from feedback.settings import FeedbackSettings
from feedback.store import Store

exporting.KEPT_EVENTS = exporting.CHUNK

def die(cursor):
    if cursor.after != cursor.until:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = Store.connect({redis_url!r}, FeedbackSettings())
    await export_file(store, Path({str(out)!r}), {layout!r}, {form!r}, resume=True, progress=die)
    await store.close()

asyncio.run(main())
"""
    return subprocess.run([sys.executable, "-c", program], check=False, cwd=Path.cwd()).returncode


async def test_an_export_that_died_after_its_file_was_whole_is_ended(
    store: Store, many: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    async def away(**_: str) -> bool:
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(store.log, "raise_exported", away)
        with pytest.raises(StoreUnavailableError):
            await export_file(store, out, "records", "jsonl")
    assert await store.log.exported() is None
    before = out.read_bytes()
    done = await export_file(store, out, "records", "jsonl", resume=True)
    assert (done.rows, done.marked) == (MANY, True)
    assert await store.log.exported() == done.until
    assert out.read_bytes() == before
    assert left_over(tmp_path) == ["out"]


async def test_a_file_that_is_there_is_not_overwritten(
    store: Store, voted: RecordVote, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.write_text("precious")
    for resume in (False, True):
        with pytest.raises(TransferError, match="exists already"):
            await export_file(store, out, "records", "jsonl", resume=resume)
    assert out.read_text() == "precious"


async def test_another_export_is_not_gone_on_with(
    store: Store, raw_redis: Redis, many: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "KEPT_EVENTS", exporting.CHUNK)
    with pytest.raises(KeyboardInterrupt):
        await export_file(store, out, "records", "jsonl", progress=stop)
    with pytest.raises(TransferError, match="has the layout records"):
        await export_file(store, out, "kto", "jsonl", resume=True)
    await raw_redis.flushall()
    with pytest.raises(TransferError, match="with later events than this one has"):
        await export_file(store, out, "records", "jsonl", resume=True)
    (tmp_path / "out.part").write_bytes(b"")
    cursor = (tmp_path / "out.cursor").read_bytes()
    (tmp_path / "out.cursor").write_bytes(cursor[:-3])
    with pytest.raises(TransferError, match="cannot be read"):
        await export_file(store, out, "records", "jsonl", resume=True)
    (tmp_path / "out.cursor").write_bytes(cursor)
    with pytest.raises(TransferError, match="is shorter"):
        await export_file(store, out, "records", "jsonl", resume=True)
    done = await export_file(store, out, "records", "jsonl")
    assert done.rows == 0
    assert left_over(tmp_path) == ["out"]


async def test_two_exports_do_not_write_one_file(
    store: Store, voted: RecordVote, tmp_path: Path
) -> None:
    await voted(1)
    with PartFile(tmp_path / "out").held(), pytest.raises(TransferError, match="Another export"):
        await export_file(store, tmp_path / "out", "records", "jsonl")


async def test_a_folder_that_is_not_there_is_one_clear_line(store: Store, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="cannot be written"):
        await export_file(store, tmp_path / "no" / "out", "records", "jsonl")


def test_the_file_of_an_export_that_ended_just_now_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("fcntl.flock", lambda *_: out.write_bytes(b"whole"))
    with pytest.raises(TransferError, match="exists already"), PartFile(out).held():
        pytest.fail("It was held.")
