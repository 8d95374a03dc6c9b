"""Throwaway Redis servers, and plain clients that look behind the store's back."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest
from redis.asyncio import Redis

from feedback.store import EmbeddedRedis

if TYPE_CHECKING:
    from pathlib import Path

_START_TIMEOUT_S = 20.0


@dataclass
class RedisServer:
    """A Redis that a test started and may kill."""

    redis: EmbeddedRedis
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return self.redis.url

    def client(self) -> Redis:
        """Return a plain client, to be used by ``async with``."""
        return plain_client(self.url)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class StartRedis(Protocol):
    """The fixture ``start_redis``: starts a server on a data folder of the test's own."""

    def __call__(self, data_dir: Path) -> RedisServer: ...


def plain_client(url: str) -> Redis:
    """Return a client that speaks text, to be used by ``async with``."""
    return Redis.from_url(url, decode_responses=True)


def start_server(data_dir: Path) -> RedisServer:
    """Start a server and wait for its answer."""
    redis = EmbeddedRedis(data_dir)
    server = RedisServer(redis, subprocess.Popen(redis.command(), stdout=subprocess.DEVNULL))
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _answers(redis):
        if server.process.poll() is not None or time.monotonic() > deadline:
            server.kill()
            pytest.fail(f"{redis.command()} did not start")
        time.sleep(0.01)
    return server


def _answers(server: EmbeddedRedis) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(server.socket))
            line.sendall(b"PING\r\n")
            return line.recv(16) == b"+PONG\r\n"
        except OSError:
            return False
