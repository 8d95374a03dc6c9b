from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from feedback.types import Completion, Person, Vote
from models.types import Message, Sampling

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.store import Store
    from tests.support.service.operator import Operator

ANN = Person("open", "ann")


@pytest.fixture
def votes(operator: Operator) -> None:
    """Record three completions with an up, a down and a correction."""

    async def record(store: Store) -> None:
        for number, vote in enumerate(
            (Vote(thumb="up"), Vote(thumb="down"), Vote(correction="Better."))
        ):
            reply = Completion(
                id=f"chatcmpl-{number}",
                person=ANN,
                conversation="",
                version="base",
                messages=(Message("user", "Q"),),
                text=f"Reply {number}",
                prompt_ids=(1,),
                response_ids=(2,),
                behaviour_logprobs=(-0.5,),
                sampling=Sampling(),
                finish_reason="stop",
                created_at=1.0,
            )
            await store.completions.record(reply)
            score = {"up": 1.0, "down": -1.0, None: None}[vote.thumb]
            await store.votes.put(reply.id, ANN, vote, score, now=2.0)

    operator.in_store(record)


def test_votes_are_exported_and_imported(operator: Operator, votes: None, tmp_path: Path) -> None:
    out = tmp_path / "votes.jsonl"
    done = operator.ask("feedback", "export", "--out", str(out))
    assert (done["rows"], done["marked"], done["file"]) == (3, True, str(out))
    again = operator.run("feedback", "export", "--out", str(out), code=1)
    assert "exists already" in again.stderr

    operator.raw_redis.flushall()
    dry = operator.ask("feedback", "import", str(out), "--dry-run")
    assert (dry["votes"], dry["dry_run"]) == (3, True)
    assert operator.ask("feedback", "stats")["pending"] == 0
    assert "3 votes imported, 0 were there" in operator.run("feedback", "import", str(out)).stdout
    assert operator.ask("feedback", "stats") == {
        "up": 1, "down": 1, "unscored": 1, "pending": 2, "claimed": 0, "learned": 0, "expired": 0,
        "discarded": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "count"),
    [("records", 3), ("kto", 2), ("preference", 2), ("reward", 2), ("sft", 2), ("triplets", 2)],
)
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_every_layout_can_be_written(
    operator: Operator, votes: None, tmp_path: Path, layout: str, count: int, form: str
) -> None:
    words = ("--layout", layout, "--format", form, "--out", str(tmp_path / "out"))
    assert operator.ask("feedback", "export", *words)["rows"] == count
    begin = (tmp_path / "out").read_bytes()[:4]
    assert (begin == b"PAR1") == (form == "parquet")


def test_an_export_goes_on_where_the_last_one_ended(
    operator: Operator, votes: None, tmp_path: Path
) -> None:
    first = operator.ask("feedback", "export", "--out", str(tmp_path / "1"))
    operator.in_store(lambda store: store.votes.withdraw("chatcmpl-0", ANN, now=3.0))
    words = ("--since", first["until"], "--resume", "--out", str(tmp_path / "2"))
    assert operator.ask("feedback", "export", *words)["rows"] == 1
    (line,) = (tmp_path / "2").read_text().splitlines()
    row = json.loads(line)
    assert (row["id"], row["state"]) == ("chatcmpl-0", "withdrawn")


def test_a_moment_that_is_none_is_one_clear_line(operator: Operator, tmp_path: Path) -> None:
    words = ("feedback", "export", "--since", "yesterday", "--out", str(tmp_path / "x"))
    assert "not a time to begin at" in operator.run(*words, code=1).stderr


def test_bad_rows_stop_an_import_before_it_begins(
    operator: Operator, votes: None, tmp_path: Path
) -> None:
    out = tmp_path / "votes.jsonl"
    operator.run("feedback", "export", "--out", str(out))
    with out.open("a") as file:
        file.write("{}\n[]\n")
    operator.raw_redis.flushall()
    told = operator.run("feedback", "import", str(out), code=1).stderr
    assert "2 of 5 rows cannot be imported, so nothing was." in told
    assert f"{out}:4: id: Field required (and 28 more)" in told
    assert f"{out}:5: Input should be" in told
    assert operator.ask("feedback", "stats")["pending"] == 0
