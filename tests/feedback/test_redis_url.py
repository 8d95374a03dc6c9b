"""One URL of Redis means the same to the record's client and to Celery's."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from kombu import Connection
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from feedback.redis_url import canonical, for_celery
from feedback.settings import FeedbackSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host:6380/2", "redis://host:6380/2"),
        ("unix:///run/redis.sock?db=3", "unix:///run/redis.sock?db=3"),
        ("rediss://:p@host/1", "rediss://:p@host/1"),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", "rediss://h?ssl_cert_reqs=required"),
        ("rediss://h?ssl_cert_reqs=None", "rediss://h?ssl_cert_reqs=none"),
        ("rediss://h?ssl_ca_certs=/x/ca.pem", "rediss://h?ssl_ca_certs=/x/ca.pem"),
        ("rediss://h?ssl_check_hostname=0", "rediss://h?ssl_check_hostname=False"),
    ],
)
def test_every_spelling_becomes_one(url: str, expected: str) -> None:
    assert canonical(url) == expected
    assert canonical(expected) == expected
    assert FeedbackSettings(redis_url=url).redis_url == expected


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host", "begins with one of redis://"),
        ("host:6379", "begins with one of redis://"),
        ("rediss://h?ssl_cert_reqs=maybe", "one of required, optional, none"),
        ("rediss://h?ssl_check_hostname=maybe", "true or false"),
        ("rediss://h?ssl_keyfiel=x", "'ssl_keyfiel' is not known"),
        ("redis://h?ssl_cert_reqs=none", "'ssl_cert_reqs' is not known for redis://"),
        ("redis://h?db=2", "the database is the path"),
    ],
)
def test_what_only_one_client_knows_stops_the_start(url: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        FeedbackSettings(redis_url=url)


def test_celery_verifies_unless_the_url_says_otherwise() -> None:
    assert for_celery("redis://h/1") == ("redis://h/1", None)
    assert for_celery("rediss://:p@h/1") == (
        "rediss://:p@h/1",
        {"ssl_cert_reqs": "required", "ssl_check_hostname": True},
    )
    url, options = for_celery(
        "rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/x&ssl_check_hostname=False"
    )
    assert url == "rediss://h"
    assert options == {
        "ssl_cert_reqs": "none",
        "ssl_ca_certs": "/x",
        "ssl_check_hostname": False,
    }


@pytest.fixture
def tls_redis(redis_url: str, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Put TLS with a self-made certificate for localhost in front of the throwaway Redis."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    files = ["-keyout", str(key), "-out", str(certificate)]
    made = [openssl, *words.split(), "subjectAltName=DNS:localhost", *files]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    path, stop = redis_url.removeprefix("unix://"), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with await asyncio.start_server(serve, sock=listener, ssl=context):
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    yield listener.getsockname()[1], certificate
    stop.set()
    thread.join()


@pytest.mark.parametrize(
    ("host", "options", "accepted"),
    [
        ("localhost", "", False),
        ("localhost", "?ssl_cert_reqs=CERT_REQUIRED", False),
        ("localhost", "?ssl_ca_certs={ca}", True),
        ("localhost", "?ssl_ca_certs={ca}&ssl_cert_reqs=required", True),
        ("127.0.0.1", "?ssl_ca_certs={ca}", False),
        ("127.0.0.1", "?ssl_ca_certs={ca}&ssl_check_hostname=false", True),
        ("127.0.0.1", "?ssl_cert_reqs=none&ssl_check_hostname=false", True),
    ],
)
def test_both_clients_accept_and_refuse_the_same_certificates(
    tls_redis: tuple[int, Path], host: str, options: str, *, accepted: bool
) -> None:
    port, certificate = tls_redis
    url = canonical(f"rediss://{host}:{port}/0{options.format(ca=certificate)}")
    ours = True
    try:
        with Redis.from_url(url, socket_timeout=20) as redis:
            redis.ping()
    except RedisConnectionError:
        ours = False
    broker, tls = for_celery(url)
    theirs = True
    try:
        with Connection(broker, ssl=tls, transport_options={"socket_timeout": 20}) as connection:
            connection.ensure_connection(max_retries=0, timeout=20)
            connection.channel()
    except Exception:
        theirs = False
    assert (ours, theirs) == (accepted, accepted)
