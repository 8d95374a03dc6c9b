"""Runs other people's client libraries against a server of ours, and checks each call.

    make test-clients

The libraries lie in an environment of their own under ``var/peers``. The default base has no
tools, so calls with tools have to be refused with a sentence that says so; all others have to work.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.support.own_server import Server
from bench.support.peer_setup import Environment, SetupError

PACKAGES = (
    "openai",
    "langchain-openai==1.7.4",
    "llama-index-llms-openai-like==0.8.1",
    "litellm==1.106.12",
    "instructor==1.17.0",
    "pydantic-ai-slim[openai]==2.31.1",
)
CALLS = Path(__file__).with_name("calls.py")
REFUSED = {"tools": "has no tools"}
SECONDS = 600

ENVIRONMENT = Environment("clients", PACKAGES, lambda environment: environment.pip(*PACKAGES))


def problem(found: dict[str, Any]) -> str | None:
    """Return what is wrong with a call; None if it worked, or was refused as it should be."""
    expected = REFUSED.get(found["feature"])
    if expected is None:
        return None if found["worked"] and found["said"].strip() else found["said"]
    if not found["worked"] and expected in found["said"]:
        return None
    return f"it was not refused with {expected!r}: {found['said']}"


def main() -> None:
    """Make all calls; the exit code is 1 if one is wrong."""
    try:
        ENVIRONMENT.ready()
    except SetupError as error:
        raise SystemExit(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="thumbloop-clients-") as folder:
        server = Server(Path(folder))
        with server.running():
            done = subprocess.run(
                [ENVIRONMENT.program("python"), str(CALLS), f"{server.url}/v1"],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    wrong = 0
    for row in rows:
        why = problem(row)
        wrong += why is not None
        state = "wrong" if why else "works" if row["worked"] else "refused, and says why"
        print(f"{row['client']:<12} {row['feature']:<11} {state}{f': {why}' if why else ''}")
    if done.returncode or not rows:
        raise SystemExit(done.stderr[-2000:] or "No call was made.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
