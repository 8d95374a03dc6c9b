"""``thumbloop up``: everything on one machine, from one command, until one Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
from filelock import FileLock, Timeout
from rich.text import Text

from feedback.errors import StoreUnavailableError
from feedback.store import EmbeddedRedis, Store, embedded_url
from models.settings import DEFAULT_BASE_MODEL
from service.errors import ServiceError
from service.parts import api_part, beat_part, cli_command, redis_part, worker_part
from service.supervisor import Keeper, Part, die_with_parent, stop_in_order

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from service.settings import ServiceSettings

DEATHS_AT_START = 3
"""A part that ends this often before all is ready ends the start."""
NEWS_SECONDS = 5.0
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")


class UpError(ServiceError):
    """The parts cannot be started; the message tells what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start and how to see that it works.

    Attributes:
        redis: Starts before and stops after all others; None with a server of the operator's.
        redis_answers: Whether Redis answers.
        preparation: A command to run to its end once Redis answers.
        parts: Start together, stop one after the other in this order.
        missing: Says what is missing until all is ready; None when it is.
        greeting: Lines to print then.
    """

    redis: Part | None
    redis_answers: Callable[[], Awaitable[bool]]
    preparation: tuple[str, ...] | None
    parts: tuple[Part, ...]
    missing: Callable[[], Awaitable[str | None]]
    greeting: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def up(settings: ServiceSettings, console: Console) -> None:
    """Run all parts until SIGINT or SIGTERM; nothing is left running.

    Raises:
        UpError: Another one runs on this data folder, the port is in use, or a part won't start.
    """
    folder = settings.data_dir.absolute()
    with only_one(folder):
        port = free_port(settings.host, settings.port)
        plan = make_plan(settings.model_copy(update={"data_dir": folder, "port": port}))
        asyncio.run(Supervisor(plan, folder / "logs", console).run())


def workers(settings: ServiceSettings, console: Console) -> None:
    """Run the workers of both queues until SIGINT or SIGTERM.

    Raises:
        UpError: Redis does not answer.
    """

    async def nothing_missing() -> None:
        return None

    folder = settings.data_dir.absolute()
    environment = _environment(settings.model_copy(update={"data_dir": folder}))
    plan = Plan(
        redis=None,
        redis_answers=lambda: redis_answers(settings),
        preparation=None,
        parts=(worker_part("control", environment), worker_part("learn", environment)),
        missing=nothing_missing,
    )
    asyncio.run(Supervisor(plan, folder / "logs", console).run())


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the data folder for this process.

    Raises:
        UpError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "up.lock", timeout=0):
            yield
    except Timeout as error:
        raise UpError(
            f"Thumbloop is already running on {folder}. Stop it first, or set THUMBLOOP_DATA_DIR "
            "to another folder."
        ) from error


def free_port(host: str, port: int) -> int:
    """Return ``port`` if it can be listened on, or any free one for 0.

    Raises:
        UpError: It cannot.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UpError(
            f"Port {port} on {host} cannot be used ({error.strerror}). Stop what uses it, or set "
            "THUMBLOOP_PORT to another one."
        ) from error


def make_plan(settings: ServiceSettings) -> Plan:
    """Return the real parts for these settings, whose data folder is absolute."""
    environment = _environment(settings)
    root = base_url(settings)
    return Plan(
        redis=None if settings.redis_url else redis_part(EmbeddedRedis(settings.data_dir)),
        redis_answers=lambda: redis_answers(settings),
        preparation=cli_command("models", "import") if _needs_import(settings) else None,
        parts=(
            api_part(settings, environment),
            beat_part(environment),
            worker_part("control", environment),
            worker_part("learn", environment),
        ),
        missing=lambda: what_is_missing(root),
        greeting=(
            f"Thumbloop is ready: chat at {root}/ and see it learn at {root}/ops",
            f"API for OpenAI clients: {root}/v1   Logs: {settings.data_dir / 'logs'}",
            "Ctrl-C stops everything.",
        ),
        environment=environment,
    )


def base_url(settings: ServiceSettings) -> str:
    """Return the URL under which this machine reaches the API."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


async def redis_answers(settings: ServiceSettings) -> bool:
    """Whether the Redis of the record answers."""
    store = Store.connect(settings.redis_url or embedded_url(settings.data_dir), settings)
    try:
        await store.ping()
    except StoreUnavailableError:
        return False
    else:
        return True
    finally:
        await store.close()


async def what_is_missing(root: str) -> str | None:
    """Ask the API whether it is ready; return what it lacks, or None."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            reply = await client.get(f"{root}/readyz")
    except httpx.HTTPError:
        return "the API does not answer yet"
    return None if reply.is_success else reply.text[:200]


def _environment(settings: ServiceSettings) -> dict[str, str]:
    """Return what the parts must agree on, whatever folder they are started from."""
    return {
        "THUMBLOOP_DATA_DIR": str(settings.data_dir),
        "THUMBLOOP_PORT": str(settings.port),
        "PYTHONUNBUFFERED": "1",
    }


def _needs_import(settings: ServiceSettings) -> bool:
    """Whether to import the packaged base first, judged without importing torch."""
    packaged = settings.base_model == DEFAULT_BASE_MODEL
    return packaged and not any((settings.data_dir / "base").glob("[!.]*"))


class Supervisor:
    """Carries a plan out, and takes it down again."""

    def __init__(self, plan: Plan, logs: Path, console: Console) -> None:
        self._plan = plan
        self._logs = logs
        self._console = console
        self._keepers: list[Keeper] = []
        self._stop = asyncio.Event()
        self._styles: dict[str, str] = {}

    async def run(self) -> None:
        """Start everything, wait for a signal, stop everything.

        Raises:
            UpError: Something would not start; what had started is stopped.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                await stopping
        finally:
            await self._take_down(starting, stopping)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self.say("up", "killing what is left")
            for keeper in self._keepers:
                keeper.kill()
        self._stop.set()

    async def _start(self) -> None:
        await self._start_redis()
        await self._prepare()
        for part in self._plan.parts:
            self._keep(part)
        await self._until(self._plan.missing, "Starting")
        for line in self._plan.greeting:
            self._console.print(line, style="bold", soft_wrap=True)

    async def _start_redis(self) -> None:
        if self._plan.redis is None:
            if not await self._plan.redis_answers():
                raise UpError("Redis does not answer: start it, or see `thumbloop doctor`.")
            return
        if await self._plan.redis_answers():
            raise UpError("A Redis is still running on this data folder: stop it first.")
        self._keep(self._plan.redis)

        async def missing() -> str | None:
            return None if await self._plan.redis_answers() else "Redis does not answer yet"

        await self._until(missing, "Starting Redis")

    async def _prepare(self) -> None:
        """Run the preparation in the foreground, its progress on this terminal."""
        if self._plan.preparation is None:
            return
        process = await asyncio.create_subprocess_exec(
            *self._plan.preparation,
            env={**os.environ, **self._plan.environment},
            preexec_fn=die_with_parent(),
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if code:
            raise UpError("The base model could not be imported; see above.")

    async def _until(self, missing: Callable[[], Awaitable[str | None]], doing: str) -> None:
        began = told = time.monotonic()
        with self._console.status(f"{doing} …") as status:
            while (lack := await missing()) is not None:
                self._give_up_on_dying_parts()
                now = time.monotonic()
                status.update(f"{doing} … {now - began:.0f} s: {lack}")
                if not self._console.is_terminal and now - told > NEWS_SECONDS:
                    told = now
                    self.say("up", f"{doing}, {now - began:.0f} s: {lack}")
                await asyncio.sleep(0.2)

    def _give_up_on_dying_parts(self) -> None:
        for keeper in self._keepers:
            if keeper.deaths >= DEATHS_AT_START:
                log = self._logs / f"{keeper.part.name}.log"
                raise UpError(f"{keeper.part.name} does not start: see above and {log}.")

    def _keep(self, part: Part) -> None:
        keeper = Keeper(part, self._logs, self.say)
        self._keepers.append(keeper)
        keeper.start()

    async def _take_down(self, *tasks: asyncio.Task[object]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._stop.set()
        self.say("up", "stopping")
        first, others = self._keepers[:1], self._keepers[1:]
        await stop_in_order([*others, *first] if self._plan.redis else self._keepers)
        self.say("up", "stopped")

    def say(self, name: str, line: str) -> None:
        """Print one line under a part's name."""
        style = self._styles.setdefault(name, _COLOURS[len(self._styles) % len(_COLOURS)])
        prefix = Text(f"{name:>14} │ ", style=style)
        self._console.print(prefix.append(line, style="default"), soft_wrap=True, highlight=False)
