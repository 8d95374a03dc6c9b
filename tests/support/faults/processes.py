"""Real processes that a test may kill, stop and start again, each by its own handle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from feedback.store import EmbeddedRedis
from service.up.keeper import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

START_SECONDS = 30.0


async def happens(condition: Callable[[], Any], seconds: float, what: str) -> float:
    """Wait until a condition, plain or awaitable, holds; return the seconds that took."""
    began = time.monotonic()
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Child:
    """A process in a session of its own; what it starts belongs to its group and dies with it.

    It does not outlive the tests either, should they be killed (Linux only).
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start it; its lines go to its log."""
        assert not self.alive(), f"{self.name} runs already"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                env={**os.environ, **self.environment},
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - as the supervisor does
            )

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def group(self) -> list[int]:
        """Return the pids of all processes of its group but itself (Linux only), oldest first."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group) == self.pid and state != "Z" and int(folder.name) != self.pid:
                    found.append(int(folder.name))
        return sorted(found)

    def kill(self) -> None:
        """End it and what it started with SIGKILL, and reap it."""
        if self.process is None:
            return
        self._signal(signal.SIGKILL)
        self.process.wait()

    def pause(self) -> None:
        """Stop it and what it started, as a machine that hangs would."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def terminate(self, seconds: float = 30.0) -> int:
        """Ask it to end; return its exit code."""
        self._signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(seconds)

    def said(self) -> str:
        """Return its log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class RedisChild(Child):
    """The embedded Redis of a data folder, which also listens on a TCP port where one is given.

    Args:
        options: Further words of its command line, for example ``"--maxmemory", "3mb"``.
    """

    def __init__(
        self, data_dir: Path, port: int | None = None, options: Sequence[str] = ()
    ) -> None:
        self.embedded = EmbeddedRedis(data_dir)
        listening = ("--port", str(port), "--bind", "127.0.0.1") if port else ()
        super().__init__(
            "redis", (*self.embedded.command(), *listening, *options), data_dir / "redis.log"
        )
        self.port = port

    @property
    def url(self) -> str:
        return self.embedded.url

    @property
    def append_only_file(self) -> Path:
        return self.embedded.folder / "appendonly.aof"

    async def start(self) -> float:
        """Start it and wait for its answer; return the seconds that took."""
        self.spawn()
        return await happens(self.answers, START_SECONDS, "Redis")

    def answers(self) -> bool:
        assert self.alive(), f"Redis ended: {self.said()[-500:]}"
        with contextlib.suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def client(self) -> redis.Redis:
        """Return a plain client, to look behind the store's back; it does not try again."""
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5, retry=None)
