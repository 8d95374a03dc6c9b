"""What a reader did with a reply is kept, shown and exported, and is no vote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from feedback.export.exporting import export_file

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.export.layouts import Format
    from feedback.store import Store
    from tests.support.service.application import RunningApp, SayHi

pytestmark = pytest.mark.anyio


async def _note(running: RunningApp, completion_id: str, signal: str, **more: Any) -> Any:
    url = f"/v1/signals/{completion_id}"
    return await running.client.post(url, json={"signal": signal, **more.pop("body", {})}, **more)


async def test_signals_are_kept_with_their_first_times_and_are_no_votes(
    running: RunningApp, chat: SayHi, store: Store
) -> None:
    reply = (await chat(running)).json()
    first = (await _note(running, reply["id"], "copied")).json()
    assert first["completion_id"] == reply["id"]
    await _note(running, reply["id"], "regenerated")
    again = (await _note(running, reply["id"], "copied")).json()["signals"]
    assert set(again) == {"copied", "regenerated"}
    assert again["copied"] == first["signals"]["copied"]
    record = await store.completions.get(reply["id"])
    assert record is not None
    assert record.signals == again
    assert await store.votes.count_waiting() == 0


async def test_only_its_reader_can_signal(running: RunningApp, chat: SayHi) -> None:
    reply = (await chat(running, user="ann")).json()
    assert (await _note(running, reply["id"], "copied")).status_code == 404
    assert (await _note(running, reply["id"], "copied", body={"user": "eve"})).status_code == 404
    assert (await _note(running, "chatcmpl-none", "copied")).status_code == 404
    assert (await _note(running, reply["id"], "loved", body={"user": "ann"})).status_code == 400
    token = {"authorization": f"Bearer {reply['choices'][0]['feedback_token']}"}
    assert (await _note(running, reply["id"], "edited", headers=token)).status_code == 200
    assert (await _note(running, "chatcmpl-1", "edited", headers=token)).status_code == 403


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_signals_go_out_with_an_export_and_come_in_again(
    running: RunningApp, chat: SayHi, store: Store, tmp_path: Path, form: Format
) -> None:
    from feedback.export.reading import read_records

    reply = (await chat(running)).json()
    await _note(running, reply["id"], "continued")
    await running.client.put(f"/v1/feedback/{reply['id']}", json={"thumb": "up"})
    out = tmp_path / f"votes.{form}"
    await export_file(store, out, "records", form)
    (row,) = read_records(out)
    assert row.record is not None, row.problem
    assert row.record.completion is not None
    assert set(row.record.completion.signals) == {"continued"}
