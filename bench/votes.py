"""Measures the record: votes over HTTP, compared with a route that does nothing and Redis alone.

    python -m bench.votes                   # all of it, some ten minutes
    python -m bench.votes votes             # votes a second; then: memory, scale

`votes` puts the same load on the real service with durability on (the embedded Redis, which calls
fsync before it answers), on a bare FastAPI route in the same kind of server, and calls the vote's
script with redis-py alone; these take turns in each round. `memory` measures what completions and
votes take in Redis, `scale` times a claim with up to a million votes waiting. `--redis-server PATH`
takes another Redis than the embedded one.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.support.machine import describe, write_results
from bench.support.processes import end_in_order
from bench.support.votes import memory as vote_memory
from bench.support.votes import scale as vote_scale
from bench.support.votes.load import VoteLoad
from bench.support.votes.rig import rig

MODES = ("all", "votes", "memory", "scale")
CONNECTIONS = (1, 8, 32, 128)
SUBJECTS = ("bare", "redis", "ours", "ours, with a key")
COMPLETIONS = 20_000


def votes(options: argparse.Namespace) -> dict[str, Any]:
    """Put votes on each subject in turns; return medians of the rounds."""
    rows = []
    with rig(COMPLETIONS, options.redis_server) as subjects:
        for round_number in range(options.rounds):
            for connections in options.connections:
                for name in SUBJECTS:
                    subject = subjects[name]
                    load = VoteLoad(
                        subject.url,
                        connections,
                        COMPLETIONS,
                        options.seconds,
                        options.warmup,
                        subject.key,
                    )
                    row = {"round": round_number, "subject": name, "connections": connections}
                    rows.append(row | subject.measure(load))
                    show(rows[-1])
    return {"rounds": rows, "table": table(rows)}


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the median of the rounds' rates, and of each round's ratio to the bare route."""
    found = []
    for connections in dict.fromkeys(row["connections"] for row in rows):
        for name in SUBJECTS:
            own = _chosen(rows, connections, name)
            others = _chosen(rows, connections, "bare")
            ratios = [a["per_second"] / b["per_second"] for a, b in zip(own, others, strict=True)]
            found.append(
                {
                    "connections": connections,
                    "subject": name,
                    "per_second": statistics.median(row["per_second"] for row in own),
                    "p50_ms": statistics.median(row["milliseconds"]["p50"] for row in own),
                    "p99_ms": statistics.median(row["milliseconds"]["p99"] for row in own),
                    "of_bare": round(statistics.median(ratios), 2),
                }
            )
    return found


def _chosen(rows: list[dict[str, Any]], connections: int, name: str) -> list[dict[str, Any]]:
    return [row for row in rows if (row["connections"], row["subject"]) == (connections, name)]


def show(row: dict[str, Any]) -> None:
    """Print one measurement."""
    spread = row["milliseconds"]
    cores = ", ".join(f"{name} {share}" for name, share in row["cores"].items())
    sys.stderr.write(
        f"{row['subject']:<17}{row['connections']:>4} connections {row['per_second']:>8}/s   "
        f"{spread['p50']} / {spread['p99']} ms   {row['refused']} refused   cores: {cores}\n"
    )


def show_table(found: list[dict[str, Any]]) -> None:
    """Print the medians as RESULTS.md shows them."""
    print("\n| connections | subject | votes/s | p50 ms | p99 ms | of the bare route |")
    print("|---|---|---|---|---|---|")
    for row in found:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


def main() -> int:
    """Run the bench."""
    end_in_order()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", nargs="?", choices=MODES, default="all")
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    parser.add_argument("--seconds", type=float, default=4.0, help="the window that counts")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds of load before it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=1_000_000, help="waiting votes of `scale`")
    parser.add_argument("--redis-server", type=Path, help="another Redis than the embedded one")
    options = parser.parse_args()
    figures: dict[str, Any] = {"machine": describe()}
    if options.mode in {"all", "votes"}:
        figures["votes"] = votes(options)
    if options.mode in {"all", "memory"}:
        figures["memory"] = asyncio.run(vote_memory.measure(options.redis_server))
    if options.mode in {"all", "scale"}:
        figures["scale"] = asyncio.run(vote_scale.measure(options.redis_server, options.most))
    write_results("feedback" if options.mode == "all" else f"feedback-{options.mode}", figures)
    if "votes" in figures:
        show_table(figures["votes"]["table"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
