"""``thumbloop up``: everything on one machine, from one command, until one Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from service.up.errors import UpError
from service.up.plan import make_plan, plan_workers
from service.up.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from service.settings import ServiceSettings


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
    folder = settings.data_dir.absolute()
    plan = plan_workers(settings.model_copy(update={"data_dir": folder}))
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
