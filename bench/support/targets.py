"""What the serving benches measure: our server with an adapter live, or any other server."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.support.adapters import publish_adapters, register
from bench.support.load import Load
from bench.support.own_server import Server
from bench.support.processes import MemoryWatch
from feedback.settings import FeedbackSettings
from feedback.store import Store, embedded_url
from feedback.types import Audit
from models.versions import Activate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from models.adapters import Manifest

OURS = "thumbloop"
SWAP_SECONDS = 30.0
_NOBODY: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A server that runs.

    Attributes:
        model: The model to ask for.
        extra: Fields that its requests have beside the common ones.
        pids: Finds its processes, for their memory; none of a server that somebody else started.
    """

    name: str
    url: str
    model: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    pids: Callable[[], Sequence[int]] = lambda: _NOBODY

    def load(self, options: argparse.Namespace, streams: int, **changes: Any) -> Load:
        """Return the load that the bench's options describe."""
        common = {
            "url": self.url,
            "models": (self.model,),
            "streams": streams,
            "seconds": options.seconds,
            "warmup": options.warmup,
            "tokens": options.tokens,
            "temperature": options.temperature,
            "extra": dict(self.extra),
            "prompts": options.questions,
        }
        return Load(**{**common, **changes})

    def measure(self, load: Load) -> dict[str, Any]:
        """Put a load on it; return the client's figures and the server's memory."""
        with MemoryWatch(self.pids) as memory:
            figures = load.run()
        return figures | memory.figures()


@dataclass(frozen=True, slots=True)
class Own:
    """Our server, running, and the random adapters published on it; the first one is live."""

    server: Server
    manifests: Sequence[Manifest]

    @property
    def target(self) -> Target:
        """Return it as a target; ``policy`` is the live adapter."""
        return Target(OURS, self.server.url, "policy", pids=self.pids)

    def pids(self) -> list[int]:
        """Return the ids of all its processes."""
        return [process.pid for process in self.server.processes()]


@contextlib.contextmanager
def own_server(settings: Mapping[str, str], adapters: int = 1) -> Iterator[Own]:
    """Run our server as ``thumbloop up`` does, with a random adapter live.

    Nobody votes on it, so nothing is learned unless a bench sees to it.
    """
    with tempfile.TemporaryDirectory(prefix="thumbloop-serving-") as folder:
        server = Server(Path(folder) / "data", **settings)
        own = Own(server, publish_adapters(server.data_dir, adapters))
        with server.running():
            asyncio.run(_go_live(own))
            live = own.manifests[0].version
            server.until(lambda: server.get("/readyz")["serving"] == live, SWAP_SECONDS, "the swap")
            yield own


async def _go_live(own: Own) -> None:
    store = Store.connect(embedded_url(own.server.data_dir), FeedbackSettings())
    try:
        await register(store, own.manifests)
        version = own.manifests[0].version
        await store.rollout.do(Activate(version), Audit("bench", "bench", time.time()))
    finally:
        await store.close()
