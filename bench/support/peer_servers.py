"""The other servers that benches measure: their command lines, their start and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from bench.support.peer_setup import TRANSFORMERS_SERVE, VLLM, Environment, SetupError, tcmalloc
from bench.support.processes import in_session, send
from bench.support.progress import say
from bench.support.targets import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

START_SECONDS = 900.0
"""vLLM compiles at its first start, for minutes."""

STOP_SECONDS = 30.0

CONTEXT, ROWS = 2048, 32


@dataclass(frozen=True, slots=True)
class Place:
    """What a peer's command line names."""

    environment: Environment
    base: Path
    adapter: Path
    port: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server.

    Attributes:
        command: Makes its command line.
        model: Makes the name that requests use.
        variables: Makes its environment variables.
        ignores_end: Whether it can be told to go on after the end-of-sequence token.
    """

    name: str
    environment: Environment
    command: Callable[[Place], Sequence[str]]
    model: Callable[[Place], str]
    variables: Callable[[Place], dict[str, str]]
    ignores_end: bool


def vllm_command(place: Place) -> tuple[str, ...]:
    """Return vLLM's command line without an adapter."""
    options = ("--dtype", "bfloat16", "--max-model-len", str(CONTEXT), "--max-num-seqs", str(ROWS))
    quiet = ("--disable-uvicorn-access-log", "--disable-log-stats")
    address = ("--host", "127.0.0.1", "--port", str(place.port), "--served-model-name", "base")
    program = place.environment.program("vllm")
    return (program, "serve", str(place.base), *address, *options, *quiet)


def vllm_adapter_command(place: Place) -> tuple[str, ...]:
    """Return vLLM's command line with the adapter live."""
    module = ("--lora-modules", f"adapter={place.adapter}")
    return (
        *vllm_command(place),
        "--enable-lora",
        "--max-loras",
        "1",
        "--max-lora-rank",
        "8",
        *module,
    )


def vllm_variables(place: Place) -> dict[str, str]:
    """Return vLLM's environment variables, tuned."""
    openmp = place.environment.folder / "lib" / "libiomp5.so"
    preloaded = [str(path) for path in (tcmalloc(place.environment), openmp) if path is not None]
    caches = place.environment.folder / "caches"
    return {
        "LD_PRELOAD": ":".join(preloaded),
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CACHE_ROOT": str(caches / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def transformers_command(place: Place) -> tuple[str, ...]:
    """Return the command line of ``transformers serve``; its own cache size suits a GPU."""
    batching = ("--continuous-batching", "--cb-num-blocks", "512", "--cb-block-size", "32")
    options = ("--cb-max-batch-tokens", "256", "--dtype", "bfloat16", "--device", "cpu")
    address = ("--host", "127.0.0.1", "--port", str(place.port))
    program = place.environment.program("transformers")
    return (program, "serve", str(place.base), *address, *batching, *options)


PEERS = (
    Peer(
        "vllm-adapter",
        VLLM,
        vllm_adapter_command,
        model=lambda _: "adapter",
        variables=vllm_variables,
        ignores_end=True,
    ),
    Peer(
        "vllm-base",
        VLLM,
        vllm_command,
        model=lambda _: "base",
        variables=vllm_variables,
        ignores_end=True,
    ),
    Peer(
        "transformers",
        TRANSFORMERS_SERVE,
        transformers_command,
        model=lambda place: str(place.base),
        variables=lambda _: {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
        ignores_end=False,
    ),
)


@contextlib.contextmanager
def serving_peer(peer: Peer, place: Place, *, may_end: bool) -> Iterator[Target]:
    """Run a peer.

    Raises:
        SetupError: It does not start.
    """
    log = place.environment.folder / f"{peer.name}.log"
    say(f"starting {peer.name} …")
    with log.open("w") as output:
        process = subprocess.Popen(
            peer.command(place),
            env={**os.environ, **peer.variables(place)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{place.port}"
        wait_until_healthy(url, process, log)
        extra = {"ignore_eos": True} if peer.ignores_end and not may_end else {}
        yield Target(peer.name, url, peer.model(place), extra, lambda: in_session(process.pid))
    finally:
        send(in_session(process.pid), signal.SIGCONT)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        send(in_session(process.pid), signal.SIGKILL)
        process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a peer says that it is ready.

    Raises:
        SetupError: It ended, or took too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", trust_env=False).is_success:
                return
        time.sleep(1)
    raise SetupError(f"The server does not start; the end of {log} says why.")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
