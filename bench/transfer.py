"""Measures export and import of feedback: rows a second, and the memory of each command.

    python -m bench.transfer [--votes 100000]

It makes a file of votes, imports it into an empty embedded Redis of its own, exports it in both
formats, and imports each export into another empty one. Each step is a command of its own; the
kernel reports the peak of its resident memory.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.support.machine import describe, write_results
from feedback.export.records import as_row
from feedback.export.writers import encode_line
from feedback.rewards import reward
from feedback.store import EmbeddedRedis
from feedback.types import Completion, Person, Vote
from feedback.vote_record import VoteRecord
from models.types import Message, Sampling

PROMPT_TOKENS, REPLY_TOKENS = 200, 100
THUMBLOOP = Path(sys.executable).parent / "thumbloop"
SMALL = 1000


def write_votes(path: Path, count: int) -> None:
    """Write a file of the layout ``records`` with so many votes of ordinary size."""
    draw = random.Random(0)
    with path.open("wb") as file:
        for number in range(count):
            file.write(encode_line(as_row(made_up(number, draw))))


def made_up(number: int, draw: random.Random) -> VoteRecord:
    """Return a vote on a reply of a hundred tokens."""
    person = Person("open", f"user {number % 5000}")
    vote = Vote(thumb=draw.choice(("up", "down")), comment="so it is" if number % 10 == 0 else None)
    reply = Completion(
        id=f"chatcmpl-{number:032x}",
        person=person,
        conversation=f"conversation {number}",
        version="base",
        messages=(Message("user", f"Question {number % 20_000}: " + "word " * 150),),
        text="word " * 80,
        prompt_ids=tuple(draw.randrange(49152) for _ in range(PROMPT_TOKENS)),
        response_ids=tuple(draw.randrange(49152) for _ in range(REPLY_TOKENS)),
        behaviour_logprobs=tuple(-draw.expovariate(1) for _ in range(REPLY_TOKENS)),
        sampling=Sampling(),
        finish_reason="stop",
        created_at=1_790_000_000.0 + number,
    )
    return VoteRecord(
        id=reply.id,
        state="pending",
        revision=1,
        updated_at=reply.created_at + 10,
        person=person,
        version="base",
        vote=vote,
        score=reward(vote),
        scored_revision=1,
        voted_at=reply.created_at + 10,
        completion=reply,
    )


def measured(data: Path, url: str, *words: str) -> dict[str, Any]:
    """Run a command; return its seconds and the peak of its resident memory."""
    environment = {**os.environ, "THUMBLOOP_REDIS_URL": url, "THUMBLOOP_DATA_DIR": str(data)}
    started = time.perf_counter()
    with subprocess.Popen(
        [str(THUMBLOOP), "feedback", *words], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} ended with {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def with_redis(folder: Path, steps: list[tuple[str, list[str]]], votes: int) -> dict[str, Any]:
    """Run commands one after the other on an empty Redis."""
    folder.mkdir()
    redis = EmbeddedRedis(folder)
    server = subprocess.Popen(redis.command(), stdout=subprocess.DEVNULL)
    try:
        while not redis.socket.exists():
            time.sleep(0.05)
        figures = {}
        for name, words in steps:
            figure = measured(folder, redis.url, *words)
            figure["rows_per_second"] = round(votes / figure["seconds"])
            figures[name] = figure
            print(f"{votes:>8} {name:<16} {figure}", flush=True)
        return figures
    finally:
        server.terminate()
        server.wait()


def run(folder: Path, votes: int) -> dict[str, Any]:
    """Measure every step with so many votes."""
    made = folder / "votes.jsonl"
    write_votes(made, votes)
    outs = {form: folder / f"out.{form}" for form in ("jsonl", "parquet")}
    pairs = str(folder / "pairs.jsonl")
    figures = {"file_mib": round(made.stat().st_size / 2**20)}
    steps = [("import jsonl", ["import", str(made)])]
    steps += [
        (f"export {form}", ["export", "--format", form, "--out", str(out)])
        for form, out in outs.items()
    ]
    steps += [("export preference", ["export", "--layout", "preference", "--out", pairs])]
    figures |= with_redis(folder / "first", steps, votes)
    steps = [("import parquet", ["import", str(outs["parquet"])])]
    figures |= with_redis(folder / "second", steps, votes)
    if made.read_bytes() != outs["jsonl"].read_bytes():
        raise SystemExit("What was exported is not what was imported.")
    return figures


def main() -> None:
    """Measure, print the figures, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--votes", type=int, default=100_000)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": describe()}
    for votes in (SMALL, options.votes):
        with tempfile.TemporaryDirectory() as folder:
            results[str(votes)] = run(Path(folder), votes)
    write_results("transfer", results)


if __name__ == "__main__":
    main()
