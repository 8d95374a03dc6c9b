"""Measures streams while an update learns on the same cores."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from bench.support.load import finished
from bench.support.processes import MemoryWatch
from bench.support.serving.burst import ratio
from bench.support.voters import UPDATE_SECONDS, VOTES, chat, vote

if TYPE_CHECKING:
    import argparse

    from bench.support.targets import Own, Target

STREAMS = (1, 4)
CLAIM_SECONDS = 30.0
VOTED_TOKENS = 60
FOR_EVER = 3600.0


def measure(own: Own, options: argparse.Namespace) -> dict[str, Any]:
    """Measure each number of streams idle, then through a whole update."""
    # Pinned, so that all figures are of one version whatever the update makes live.
    pinned = f"policy@{own.manifests[0].version}"
    rows = []
    for streams in STREAMS:
        load = own.target.load(options, streams, models=(pinned,))
        idle = own.target.measure(load)
        learning = through_update(own, own.target, options, streams, pinned)
        rate = ratio(learning["inter_token_ms"], idle["inter_token_ms"])
        sys.stderr.write(f"{streams} stream(s): p99 between tokens × {rate} while learning\n")
        rows.append(
            {"streams": streams, "inter_token_p99_ratio": rate, "idle": idle, "learning": learning}
        )
    return {"rows": rows}


def through_update(
    own: Own, target: Target, options: argparse.Namespace, streams: int, model: str
) -> dict[str, Any]:
    """Cast the votes of one update; keep the streams busy from its claim to its end."""
    server = own.server
    before = len(server.get("/admin/updates")["data"])
    with ThreadPoolExecutor(VOTES) as pool:
        replies = list(pool.map(lambda i: chat(server, i, VOTED_TOKENS), range(VOTES)))
    for number, reply in enumerate(replies):
        vote(server, reply["id"], number, "up" if number % 2 else "down")

    def newest() -> Any:
        runs = server.get("/admin/updates")["data"]
        return runs[0] if len(runs) > before else None

    server.until(newest, CLAIM_SECONDS, "the update's claim")
    load = target.load(options, streams, models=(model,), seconds=FOR_EVER, warmup=1.0)
    with MemoryWatch(target.pids) as memory:
        client = load.start()
        try:
            run = server.until(
                lambda: (found := newest()) and found["finished_at"] and found,
                UPDATE_SECONDS,
                "the update's end",
            )
        finally:
            client.terminate()
        figures = finished(client)
    report = run["report"] or {}
    state = {"update": run["state"], "update_seconds": report.get("seconds")}
    return figures | memory.figures() | state
