"""Times the loop on the real model: from the 16th vote to the first reply by the new version.

Default settings on a server of its own; ``--practice-rounds 0`` learns from votes alone. Sixteen
people's replies are thumbed up when short and down when long; the clock starts when the 16th vote
is answered. Nobody chats meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.support.machine import describe, write_results
from bench.support.own_server import Server, ServerError
from bench.support.voters import UPDATE_SECONDS, VOTES, chat, vote

PHASES = (
    ("look", "16th vote answered → batch claimed"),
    ("start", "torch, transformers and the base model into the learner's process"),
    ("load", "the parent's weights and Adam's state"),
    ("score", "log-probs of the batch under the start policy and the base"),
    ("learn", "PPO epochs"),
    ("measure", "how far the policy went"),
    ("publish", "adapter folder written, synced and verified"),
    ("probe", "gate: held-out prompts answered and measured"),
    ("swap", "made live → the API serves it"),
    ("reply", "first reply by it, 16 tokens, whole"),
    ("other", "everything between these"),
)


def one_update(server: Server, tokens: int) -> dict[str, Any]:
    """Chat, vote sixteen times, wait for the new version's first reply; return the seconds.

    Raises:
        ServerError: The update did not become live.
    """
    before = len(server.get("/admin/updates")["data"])
    with ThreadPoolExecutor(VOTES) as pool:
        replies = list(pool.map(lambda i: chat(server, i, tokens), range(VOTES)))
    lengths = [reply["usage"]["completion_tokens"] for reply in replies]
    for number, reply in enumerate(replies):
        short = len(reply["choices"][0]["message"]["content"]) < median_text(replies)
        vote(server, reply["id"], number, "up" if short else "down")
    voted = time.time()

    def ended() -> Any:
        runs = server.get("/admin/updates")["data"]
        return len(runs) > before and runs[0]["finished_at"] and runs[0]

    run = server.until(ended, UPDATE_SECONDS, "the end of the run")
    if run["state"] != "approved":
        raise ServerError(f"Run {run['number']} is {run['state']}: {run['reason']}")
    server.until(lambda: server.get("/readyz")["serving"] == run["version"], 60, "the swap")
    served = time.time()
    reply = chat(server, 0, 16)
    replied = time.time()
    if reply["system_fingerprint"] != run["version"]:
        raise ServerError(f"{reply['system_fingerprint']} replied instead of {run['version']}")
    figures = server.get(f"/admin/versions/{run['version']}")["figures"]
    activated = server.get("/admin/audit")["data"][0]["at"]
    seconds = {
        "look": run["claimed_at"] - voted,
        **run["report"]["seconds"],
        "probe": figures["seconds"]["probe"],
        "swap": served - activated,
        "reply": replied - served,
    }
    total = replied - voted
    seconds["other"] = total - sum(seconds.values())
    return {
        "version": run["version"],
        "reply_tokens": sum(lengths),
        "epochs": run["report"]["epochs"],
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "total_seconds": round(total, 2),
    }


def median_text(replies: list[dict[str, Any]]) -> float:
    """Return the median length of the replies, in characters."""
    return statistics.median(len(r["choices"][0]["message"]["content"]) for r in replies)


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="updates, one after the other")
    parser.add_argument("--tokens", type=int, default=60, help="most tokens of a voted reply")
    parser.add_argument("--practice-rounds", default="3", help="3 is the default of the product")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thumbloop-loop-") as folder:
        server = Server(Path(folder), practice_rounds=options.practice_rounds)
        print("starting the server …", file=sys.stderr)
        with server.running():
            updates = []
            for number in range(options.repeat):
                print(f"update {number + 1} of {options.repeat} …", file=sys.stderr)
                updates.append(one_update(server, options.tokens))
    for name, meaning in PHASES:
        columns = "".join(f"{update['seconds'][name]:>8.2f}" for update in updates)
        print(f"{name:<8}{columns} s  {meaning}")
    write_results("loop", {"machine": describe(), "options": vars(options), "updates": updates})
    return 0


if __name__ == "__main__":
    sys.exit(main())
