"""Runs the application in this process until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from service.app.application import create_app
from service.errors import ConfigurationError
from service.runtime.lifecycle import Lifecycle

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from models.backends import Generator
    from service.settings import ServiceSettings

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005


class Server(uvicorn.Server):
    """Stops in two steps, and ends with exit code 0.

    After a signal /readyz says no at once; the port closes after ``drain_delay`` seconds, then
    replies in flight have uvicorn's graceful time-out to end. A second Ctrl-C ends it at once.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_delay: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_delay = drain_delay
        self._stop_at = math.inf
        self._frozen = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal; uvicorn's own handler would raise it again at the end."""
        del frame
        if not self._lifecycle.draining:
            self._lifecycle.draining = True
            self._stop_at = time.monotonic() + self._drain_delay
        elif sig == signal.SIGINT:
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop now."""
        if time.monotonic() >= self._stop_at or self._lifecycle.failure is not None:
            self.should_exit = True
        if self._lifecycle.loaded and not self._frozen:
            self._freeze()
        return await super().on_tick(counter)

    def _freeze(self) -> None:
        """Exempt what stays in memory from garbage collection: full passes stall all requests."""
        self._frozen = True
        gc.collect()
        gc.freeze()


def serve(settings: ServiceSettings, generator: Generator | None = None) -> None:
    """Serve until SIGTERM or SIGINT; replies in flight are finished first.

    Raises:
        ConfigurationError: The address cannot be used, or the settings make no safe server.
        ModelsError: The model cannot be loaded.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    lifecycle = Lifecycle()
    run(create_app(settings, generator, lifecycle=lifecycle), settings, lifecycle)
    if lifecycle.failure is not None:
        raise lifecycle.failure


def run(app: FastAPI, settings: ServiceSettings, lifecycle: Lifecycle) -> None:
    """Serve an application until a signal, or a failure of its own, ends it.

    Raises:
        ConfigurationError: The address cannot be used.
    """
    listener = listen(settings.host, settings.port)
    config = uvicorn.Config(
        app,
        http="httptools",
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout.total_seconds()),
    )
    server = Server(config, lifecycle, settings.drain_delay.total_seconds())
    lifecycle.url = _url(listener)
    log.info("Listening on %s", lifecycle.url)
    # After each step the decode thread wants the interpreter back, and Python's default lets the
    # event loop keep it for 5 ms, half of a step at one stream.
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(sockets=[listener]))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: The address cannot be used.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            # Only listening shows whether another server that binds the same way has the port.
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"Port {port} on {host} cannot be used ({error.strerror}). Stop what uses it, or set "
            "THUMBLOOP_PORT to another one."
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
