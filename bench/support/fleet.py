"""Several API replicas on one Redis and one data folder, each a process: for benches and tests."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from bench.support.own_server import START_SECONDS, STOP_SECONDS, ServerError
from feedback.store import EmbeddedRedis
from service.up.parts import cli_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_POLL_SECONDS = 0.1
_TAIL = 2000


@dataclass
class Replica:
    """One API process."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def ready(self) -> bool:
        """Whether it serves.

        Raises:
            ServerError: It has ended.
        """
        if self.process.poll() is not None:
            said = self.log.read_text(errors="replace")[-_TAIL:]
            raise ServerError(f"A replica ended with exit code {self.process.returncode}:\n{said}")
        try:
            answer = httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5)
        except httpx.TransportError:
            return False
        return answer.is_success


class Fleet:
    """A Redis and its replicas.

    Args:
        data_dir: The data folder that all share, with a base model in it or named by a setting.
        replicas: How many.
        command: What each of them runs; ``thumbloop api`` when None.
        settings: Settings by their names without prefix.
    """

    def __init__(
        self,
        data_dir: Path,
        replicas: int,
        command: Sequence[str] | None = None,
        **settings: str,
    ) -> None:
        self.data_dir = data_dir
        self.redis = EmbeddedRedis(data_dir)
        self.replicas: list[Replica] = []
        self._count = replicas
        self._command = tuple(command or cli_command("api"))
        ours = {f"THUMBLOOP_{name.upper()}": value for name, value in settings.items()}
        others = {k: v for k, v in os.environ.items() if not k.startswith("THUMBLOOP_")}
        self._environment = {**others, **ours, "THUMBLOOP_DATA_DIR": str(data_dir)}
        self._redis: subprocess.Popen[bytes] | None = None

    @property
    def urls(self) -> list[str]:
        """Where the replicas listen."""
        return [replica.url for replica in self.replicas]

    @contextlib.contextmanager
    def running(self) -> Iterator[Fleet]:
        """Start all of it; leave nothing running at the end of the block."""
        try:
            self._redis = subprocess.Popen(self.redis.command(), stdout=subprocess.DEVNULL)
            until(self.redis.socket.exists, START_SECONDS, "Redis")
            for _ in range(self._count):
                self.add()
            for replica in self.replicas:
                until(replica.ready, START_SECONDS, "A ready replica")
            yield self
        finally:
            self._destroy()

    def add(self) -> Replica:
        """Start one more replica; it is not ready yet."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        log = self.data_dir / f"replica-{len(self.replicas)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._command,
                cwd=self.data_dir,
                env={**self._environment, "THUMBLOOP_PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.replicas.append(Replica(f"http://127.0.0.1:{port}", log, process))
        return self.replicas[-1]

    def stop(self, replica: Replica) -> int:
        """Ask a replica to stop, as a service manager would; return its exit code."""
        self.replicas.remove(replica)
        replica.process.terminate()
        return replica.process.wait(STOP_SECONDS)

    def _destroy(self) -> None:
        processes = [replica.process for replica in self.replicas]
        for process in [*processes, *([self._redis] if self._redis else [])]:
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a callable returns a true value.

    Raises:
        ServerError: It did not in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"{what} did not come within {seconds:.0f} s.")
        time.sleep(_POLL_SECONDS)
