from __future__ import annotations

import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

from feedback.errors import StoreUnavailableError
from feedback.settings import FeedbackSettings
from feedback.store import EmbeddedRedis, Store, embedded_url
from feedback.store.embedded import redis_binary

if TYPE_CHECKING:
    from tests.support.store.servers import StartRedis

pytestmark = pytest.mark.anyio


def test_the_socket_lies_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert embedded_url(Path("/srv/tl")) == "unix:///srv/tl/redis/redis.sock"
    monkeypatch.chdir("/")
    assert embedded_url(Path("var")) == "unix:///var/redis/redis.sock"


def test_celery_reaches_the_same_server(start_redis: StartRedis, tmp_path: Path) -> None:
    server = start_redis(tmp_path / "a b%20")
    assert server.redis.celery_url.endswith("/a%20b%2520/redis/redis.sock?virtual_host=0")
    with Connection(server.redis.celery_url) as connection:
        channel: Any = connection.channel()
        assert channel.client.ping()


async def test_a_long_and_odd_path_still_works(
    start_redis: StartRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        server = start_redis(tmp_path / ('é "q" \\' + "x" * 80))
        socket = server.redis.socket
        assert socket.is_relative_to(short)
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        store = Store.connect(server.url, FeedbackSettings())
        await store.ping()
        await store.close()
        server.kill()


def test_a_prepared_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = EmbeddedRedis(tmp_path / ("x" * 100))
    server.socket.parent.mkdir(mode=0o755)
    with pytest.raises(StoreUnavailableError, match="only you can enter"):
        server.command()


async def test_votes_are_on_disk_before_they_are_answered(
    start_redis: StartRedis, tmp_path: Path
) -> None:
    async with start_redis(tmp_path).client() as raw_redis:
        found = await raw_redis.config_get("*")
    for name, value in {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "port": "0",
    }.items():
        assert found[name] == value


def test_without_a_server_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreUnavailableError, match="make setup"):
        redis_binary()
    own = tmp_path / "redis-server"
    own.touch(mode=0o755)
    assert redis_binary() == own
