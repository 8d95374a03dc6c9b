"""Starts Thumbloop on a throwaway data folder as users do, for benches and end-to-end tests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from bench.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

START_SECONDS = 120.0
STOP_SECONDS = 90.0
REPLY_SECONDS = 120.0
POLL_SECONDS = 0.2
GREETING = re.compile(r"Thumbloop is ready: chat at (http://\S+?)/ ")

_CLI = (sys.executable, "-m", "service.cli")
_TAIL_LINES = 40


class ServerError(Exception):
    """The server did not do what was waited for; the message ends with the tail of its output."""


def share_base(data_dir: Path) -> None:
    """Give a new data folder the checkout's base model and compiled step; import if need be."""
    shared = ROOT / "var"
    if not any((shared / "base").glob("[!.]*")):
        environment = _environment({"THUMBLOOP_DATA_DIR": str(shared)})
        subprocess.run([*_CLI, "models", "import"], env=environment, check=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    (shared / "native").mkdir(exist_ok=True)
    for name in ("base", "native"):
        (data_dir / name).symlink_to(shared / name)


class Server:
    """One ``thumbloop up`` and its data folder; it can be stopped and started again.

    Args:
        data_dir: The data folder; a missing one is made, with the checkout's base model.
        settings: Settings by their names without prefix, for example ``min_votes="6"``.
    """

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.url = ""
        self.http = httpx.Client(timeout=REPLY_SECONDS, trust_env=False)
        self._output = data_dir / "up.out"
        self._process: subprocess.Popen[bytes] | None = None
        chosen = {f"THUMBLOOP_{name.upper()}": value for name, value in settings.items()}
        self._environment = _environment(
            {"THUMBLOOP_PORT": "0", **chosen, "THUMBLOOP_DATA_DIR": str(data_dir)}
        )
        if not (data_dir / "base").exists():
            share_base(data_dir)

    def start(self) -> float:
        """Start it and wait until it says that it is ready; return the seconds that took.

        Raises:
            ServerError: It ended, or took too long.
        """
        began = time.monotonic()
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                [*_CLI, "up"],
                cwd=self.data_dir,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._process = process
        self.url = self.until(lambda: self._greeted(process), START_SECONDS, "the greeting")
        return time.monotonic() - began

    def stop(self) -> int:
        """Ask it to stop, as Ctrl-C or a service manager would; return its exit code."""
        if self._process is None:
            raise ServerError("It was not started.")
        self._process.terminate()
        return self._process.wait(STOP_SECONDS)

    def destroy(self) -> None:
        """End whatever is left of it, at once; it cannot be started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.http.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        """Start it; leave nothing running at the end of the block."""
        try:
            self.start()
            yield self
            self.stop()
        finally:
            self.destroy()

    def get(self, path: str) -> Any:
        """Return the JSON answer to a GET.

        Raises:
            httpx.HTTPError: It does not answer, or with an error.
        """
        return self.http.get(self.url + path).raise_for_status().json()

    def command(self, *arguments: str) -> Any:
        """Run a ``thumbloop`` command with ``--json`` on its data folder; return what it prints.

        Raises:
            subprocess.CalledProcessError: The command failed.
        """
        done = subprocess.run(
            [*_CLI, *arguments, "--json"],
            env=self._environment,
            check=True,
            capture_output=True,
        )
        return json.loads(done.stdout)

    def log(self, part: str) -> str:
        """Return the log of one part so far."""
        path = self.data_dir / "logs" / f"{part}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """Return every process of this data folder, found by its environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                here = process.environ().get("THUMBLOOP_DATA_DIR") == str(self.data_dir)
                if here and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def until(self, found: Callable[[], Any], seconds: float, what: str) -> Any:
        """Return the first true value of ``found``.

        Raises:
            ServerError: There was none in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = found()
            if value:
                return value
            time.sleep(POLL_SECONDS)
        raise self._error(f"{what} did not come within {seconds:.0f} s")

    def _greeted(self, process: subprocess.Popen[bytes]) -> str | None:
        if process.poll() is not None:
            raise self._error(f"`thumbloop up` ended with exit code {process.returncode}")
        match = GREETING.search(self._output.read_text(errors="replace"))
        return match[1] if match else None

    def _error(self, message: str) -> ServerError:
        tail = self._output.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return ServerError("\n".join([f"{message}:", *tail]))


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with our settings in place of the reader's own."""
    others = {k: v for k, v in os.environ.items() if not k.startswith("THUMBLOOP_")}
    return {**others, **ours}
