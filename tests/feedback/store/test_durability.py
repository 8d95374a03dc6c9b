"""A vote that is answered is on disk, or refused, whatever the server is."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Protocol

import pytest
from redis.exceptions import ResponseError

from feedback.errors import StoreUnavailableError
from feedback.settings import FeedbackSettings
from feedback.store import EmbeddedRedis, Store
from feedback.store.durability import DurabilityStatus, assess, on_disk
from feedback.types import Person, Vote
from tests.support.store.servers import plain_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from feedback.types import Completion

    MakeCompletion = Callable[..., Completion]

    class StartServer(Protocol):
        def __call__(self, folder: Path, *options: str, binary: str | None = None) -> Server: ...


pytestmark = pytest.mark.anyio
ANN = Person("k1", "ann")
UP = Vote(thumb="up")

NEWER = "REDIS_WITH_WAITAOF"
APP = ("app", "on", ">pw", "~*", "+@all", "-config")
EVERYSEC = ("--appendfsync", "everysec")
NO_FILE = ("--appendonly", "no")
KEPT = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
REFUSED = ResponseError("unknown command 'WAITAOF'")
FORBIDDEN = ResponseError("NOPERM User app has no permissions to run the 'config|get' command")
DONE = [1, 0]


class Server:
    """A server with options of its own, which a test may kill and start again."""

    def __init__(self, folder: Path, options: tuple[str, ...], binary: str | None) -> None:
        self.redis = EmbeddedRedis(folder)
        own, config = self.redis.command()
        self.words = [binary or own, config, *options]
        self.start()

    @property
    def url(self) -> str:
        return self.redis.url

    def start(self) -> None:
        self.process = subprocess.Popen(self.words, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{self.words} did not start")
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as line:
            try:
                line.connect(str(self.redis.socket))
                line.sendall(b"PING\r\n")
                return line.recv(16) == b"+PONG\r\n"
            except OSError:
                return False


@pytest.fixture
def serve() -> Iterator[StartServer]:
    servers: list[Server] = []

    def start(folder: Path, *options: str, binary: str | None = None) -> Server:
        servers.append(Server(folder, options, binary))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def newer() -> str:
    """A server that has WAITAOF, as CONTRIBUTING says how to get one."""
    named = os.environ.get(NEWER)
    for binary in (named, shutil.which("redis-server"), shutil.which("valkey-server")):
        if binary:
            told = subprocess.run([binary, "--version"], capture_output=True, check=True).stdout
            found = re.search(rb"v=(\d+)\.(\d+)", told)
            if found and (int(found[1]), int(found[2])) >= (7, 2):
                return binary
    pytest.skip(f"needs Redis 7.2 or newer: name its binary in {NEWER} (CONTRIBUTING says how)")


async def vote(store: Store, completion: MakeCompletion, name: str = "c1") -> None:
    await store.completions.record(completion(name))
    await store.votes.put(name, ANN, UP, 1.0, now=2000.0)


async def note_the_loss() -> None:
    """Let the event loop see that connections were closed; the test has not let it run since."""
    await asyncio.sleep(0.05)


def test_what_a_server_says_of_itself_is_believed() -> None:
    assert assess(KEPT, REFUSED) == DurabilityStatus()
    assert assess(KEPT, DONE) == DurabilityStatus()
    assert assess({**KEPT, "appendfsync": "everysec"}, DONE) == DurabilityStatus(waits=True)
    assert assess({**KEPT, "no-appendfsync-on-rewrite": "yes"}, DONE) == DurabilityStatus(
        waits=True
    )
    assert assess(FORBIDDEN, DONE) == DurabilityStatus(waits=True)


@pytest.mark.parametrize(
    ("config", "probe", "advice"),
    [
        ({**KEPT, "appendonly": "no"}, DONE, "set `appendonly yes`"),
        ({**KEPT, "appendfsync": "everysec"}, REFUSED, "set `appendfsync always`"),
        ({**KEPT, "appendfsync": "no"}, REFUSED, "use Redis 7.2 or newer"),
        ({**KEPT, "no-appendfsync-on-rewrite": "yes"}, REFUSED, "no-appendfsync-on-rewrite no"),
        (FORBIDDEN, REFUSED, "allow CONFIG GET or WAITAOF"),
    ],
)
def test_what_cannot_be_promised_is_refused_with_advice(
    config: dict[str, str], probe: object, advice: str
) -> None:
    refusal = assess(config, probe).refusal
    assert advice in refusal
    assert "THUMBLOOP_DURABILITY=memory" in refusal


def test_a_wait_that_ran_out_is_no_promise() -> None:
    assert on_disk([1, 0])
    assert not on_disk([0, 0])
    assert not on_disk(ResponseError("UNBLOCKED"))


@pytest.mark.parametrize("options", [EVERYSEC, NO_FILE])
async def test_a_server_that_cannot_promise_gets_no_vote_but_serves_the_rest(
    serve: StartServer, tmp_path: Path, completion: MakeCompletion, options: tuple[str, ...]
) -> None:
    store = Store.connect(serve(tmp_path, *options).url, FeedbackSettings())
    with pytest.raises(StoreUnavailableError, match="cannot promise"):
        await store.check_durability()
    with pytest.raises(StoreUnavailableError, match="set `append"):
        await vote(store, completion)
    assert await store.completions.get("c1") is not None
    assert await store.votes.count_waiting() == 0
    await store.close()


@pytest.mark.parametrize("options", [EVERYSEC, NO_FILE])
async def test_an_operator_may_choose_memory(
    serve: StartServer, tmp_path: Path, completion: MakeCompletion, options: tuple[str, ...]
) -> None:
    settings = FeedbackSettings(durability="memory")
    store = Store.connect(serve(tmp_path, *options).url, settings)
    await store.check_durability()
    await vote(store, completion)
    assert await store.votes.count_waiting() == 1
    await store.close()


async def test_a_server_that_was_mended_is_believed_after_its_restart(
    serve: StartServer, tmp_path: Path, completion: MakeCompletion
) -> None:
    broken = serve(tmp_path, *EVERYSEC)
    store = Store.connect(broken.url, FeedbackSettings())
    with pytest.raises(StoreUnavailableError, match="cannot promise"):
        await vote(store, completion)
    broken.kill()
    mended = serve(tmp_path)
    await note_the_loss()
    await vote(store, completion)
    mended.kill()
    serve(tmp_path, *EVERYSEC)
    await note_the_loss()
    with pytest.raises(StoreUnavailableError, match="cannot promise"):
        await vote(store, completion, "c2")
    await store.close()


async def test_where_config_is_forbidden_and_nothing_can_be_waited_for_nothing_is_promised(
    serve: StartServer, tmp_path: Path
) -> None:
    url = serve(tmp_path).url
    async with plain_client(url) as admin:
        await admin.execute_command("ACL SETUSER", *APP)
    store = Store.connect(f"{url}?username=app&password=pw", FeedbackSettings())
    with pytest.raises(StoreUnavailableError, match="allow CONFIG GET or WAITAOF"):
        await store.check_durability()
    await store.close()


async def test_with_a_newer_server_an_answer_waits_for_the_disk(
    serve: StartServer, newer: str, tmp_path: Path, completion: MakeCompletion
) -> None:
    server = serve(tmp_path, *EVERYSEC, binary=newer)
    store = Store.connect(server.url, FeedbackSettings())
    await vote(store, completion, "c1")
    began = time.monotonic()
    await vote(store, completion, "c2")
    # The file is synced once a second, just before the vote; so that is what the vote waited for.
    assert time.monotonic() - began > 0.5
    began = time.monotonic()
    assert await store.votes.count_waiting() == 2
    assert time.monotonic() - began < 0.5
    await store.close()


async def test_with_a_newer_server_a_vote_that_was_refused_and_comes_again_waits_too(
    serve: StartServer, newer: str, tmp_path: Path, completion: MakeCompletion
) -> None:
    server = serve(tmp_path, *EVERYSEC, binary=newer)
    store = Store.connect(server.url, FeedbackSettings())
    hasty = Store.connect(server.url, FeedbackSettings(durability="memory"))
    await vote(store, completion, "c1")  # The file is synced now, and not again for a second.
    await vote(hasty, completion, "c2")
    began = time.monotonic()
    await store.votes.put("c2", ANN, UP, 1.0, now=2001.0)
    assert time.monotonic() - began > 0.5
    for each in (store, hasty):
        await each.close()


async def test_with_a_newer_server_a_full_memory_refuses_and_mixes_no_answers_up(
    serve: StartServer, newer: str, tmp_path: Path, completion: MakeCompletion
) -> None:
    url = serve(tmp_path, *EVERYSEC, binary=newer).url
    store = Store.connect(url, FeedbackSettings())
    await vote(store, completion)
    async with plain_client(url) as admin:
        await admin.config_set("maxmemory", "1")
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.check_durability()
    async with plain_client(url) as admin:
        await admin.config_set("maxmemory", "0")
    for score in (-1.0, 1.0):
        assert (await store.votes.put("c1", ANN, UP, score, now=2001.0)).score == score
    await store.close()


async def test_with_a_newer_server_a_kill_loses_nothing_that_was_answered(
    serve: StartServer, newer: str, tmp_path: Path, completion: MakeCompletion
) -> None:
    server = serve(tmp_path, *EVERYSEC, binary=newer)
    store = Store.connect(server.url, FeedbackSettings())
    for round_number in range(3):
        for i in range(20):
            await store.completions.record(completion(f"c{round_number}-{i}"))
        await vote(store, completion, f"c{round_number}-0")
        server.kill()
        server.start()
        await note_the_loss()
        found = await store.votes.get(f"c{round_number}-0", ANN)
        assert found.score == 1.0
    await store.close()


async def test_with_a_newer_server_waiting_works_where_config_is_forbidden(
    serve: StartServer, newer: str, tmp_path: Path, completion: MakeCompletion
) -> None:
    url = serve(tmp_path, *EVERYSEC, binary=newer).url
    async with plain_client(url) as admin:
        await admin.execute_command("ACL SETUSER", *APP)
    store = Store.connect(f"{url}?username=app&password=pw", FeedbackSettings())
    await vote(store, completion)
    # The operator turns the file off while connections are open: the wait itself says so.
    async with plain_client(url) as admin:
        await admin.config_set("appendonly", "no")
    with pytest.raises(StoreUnavailableError, match="disk"):
        await vote(store, completion, "c2")
    await store.close()
