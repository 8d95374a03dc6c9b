"""The load client for votes: each connection sends the next vote as soon as one is answered.

It is a process of its own, and cheap, so that the server is measured and not the client: sockets
stay open, requests are built beforehand, and of an answer only the head and the length are read.
The bench starts it with its figures as JSON:

    python -m bench.support.votes.load '{"url": "http://127.0.0.1:8000", "connections": 32}'
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvloop

from bench.support.load import finished, spread
from bench.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
_END = b"\r\n\r\n"
THUMBS = ("up", "down")


@dataclass(frozen=True, slots=True)
class VoteLoad:
    """Whom to send votes to, and for how long.

    Attributes:
        completions: The votes go round ``bench-0`` to this number, the thumb another each round.
        seconds: The window that counts.
        key: An API key; empty for none.
    """

    url: str
    connections: int
    completions: int
    seconds: float = 5.0
    warmup: float = 1.0
    key: str = ""

    def as_json(self) -> str:
        """Return it as the command lines of clients take it."""
        return json.dumps(asdict(self))

    def run(self) -> dict[str, Any]:
        """Run the client in a process of its own to its end; return its figures."""
        command = [sys.executable, "-m", "bench.support.votes.load", self.as_json()]
        return finished(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))


class Voter(asyncio.Protocol):
    """One connection.

    Attributes:
        answers: When each answer was whole, and the seconds that it took.
        refused: Answers other than 200.
    """

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.answers: list[tuple[float, float]] = []
        self.refused = 0
        self._requests = requests
        self._received = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first vote."""
        self._transport: Any = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Send the next vote once the answer to the last one is whole."""
        self._received += data
        head = self._received.find(_END)
        length = _LENGTH.search(self._received)
        if head < 0 or length is None:
            return
        if len(self._received) < head + len(_END) + int(length[1]):
            return
        now = time.perf_counter()
        self.answers.append((now, now - self._sent))
        self.refused += not self._received.startswith(b"HTTP/1.1 200")
        self._received = b""
        self._send()

    def close(self) -> None:
        """Stop asking."""
        self._transport.close()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


def requests(load: VoteLoad) -> Iterator[bytes]:
    """Yield the bytes of one request after the other, for ever."""
    key = f"authorization: Bearer {load.key}\r\n" if load.key else ""
    built = [
        f"PUT /v1/feedback/bench-{number} HTTP/1.1\r\nhost: {urlsplit(load.url).netloc}\r\n{key}"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        for thumb in THUMBS
        for body in (json.dumps({"thumb": thumb}),)
        for number in range(load.completions)
    ]
    return itertools.cycle(built)


async def vote(load: VoteLoad) -> list[Voter]:
    """Keep all connections busy until the window ends."""
    shared = requests(load)
    address = urlsplit(load.url)
    loop = asyncio.get_running_loop()
    voters = []
    for _ in range(load.connections):
        _, voter = await loop.create_connection(
            lambda: Voter(shared), address.hostname, address.port
        )
        voters.append(voter)
    await asyncio.sleep(load.warmup + load.seconds)
    for voter in voters:
        voter.close()
    return voters


def summarise(
    answers: Sequence[tuple[float, float]], begin: float, seconds: float
) -> dict[str, Any]:
    """Return the rate and the spread of the answers of a window."""
    counted = [took for at, took in answers if begin <= at < begin + seconds]
    return {"per_second": round(len(counted) / seconds, 1), "milliseconds": spread(counted)}


def main() -> int:
    """Run the client; print its figures, its own share of a core among them."""
    load = VoteLoad(**json.loads(sys.argv[1]))
    began = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        voters = runner.run(vote(load))
    lasted = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    answers = [answer for voter in voters for answer in voter.answers]
    figures = summarise(answers, began + load.warmup, load.seconds) | {
        "refused": sum(voter.refused for voter in voters),
        "client_cpu": round((used.ru_utime + used.ru_stime) / lasted, 2),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
