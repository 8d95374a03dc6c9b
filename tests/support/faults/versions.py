"""Versions of a site on its disk and in its record, and what its replicas say of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from safetensors.numpy import save_file

from feedback.types import Audit
from models.adapters import CONFIG_FILE, WEIGHTS_FILE, AdapterStore, Origin
from models.versions import Activate
from tests.support.faults.processes import happens

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.store import Store
    from tests.support.faults.site import Site

SECONDS = 10.0
BIN_FILE = "adapter_model.bin"


@dataclass
class Versions:
    """Adapters of a site; their weights fit no model, and the scripted engine asks for none."""

    site: Site
    store: Store

    @property
    def folder(self) -> Path:
        return self.site.data_dir / "adapters"

    async def publish(self, number: int) -> str:
        """Publish an adapter and enter it as one that passed its gate."""

        def write(folder: Path) -> None:
            (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": 1}))
            save_file({"lora_A": np.full((1, 4), number, np.float32)}, folder / WEIGHTS_FILE)

        origin = Origin("base", None, "", 0, "fake", "fake", time.time())
        manifest = AdapterStore(self.folder).publish(number, origin, write)
        await self.enter(manifest.version, manifest.as_dict())
        return manifest.version

    async def enter(self, version: str, manifest: dict[str, Any] | None = None) -> None:
        await self.store.versions.add(
            version, parent="base", manifest=manifest or {}, state="approved", now=time.time()
        )

    async def activate(self, version: str) -> int:
        """Make a version live in the record, past the API's own check; return the generation."""
        changed = await self.store.rollout.do(
            Activate(version), Audit("learner", "test", time.time())
        )
        return changed.generation

    async def serve(self, version: str, url: str = "") -> None:
        """Make a version live, and wait until the site serves it."""
        await self.activate(version)

        async def served() -> bool:
            said = await self.ready(url)
            return bool(said["serving"] == version)

        await happens(served, SECONDS, f"That {version} is served")

    async def ready(self, url: str = "") -> dict[str, Any]:
        """Return what ``/readyz`` says, which must be yes."""
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as http:
            answer = await http.get(f"{url or self.site.url}/readyz")
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def problem(self, url: str = "") -> dict[str, Any]:
        """Wait until ``/readyz`` tells of a problem; return what it says."""
        said: dict[str, Any] = {}

        async def told() -> bool:
            said.update(await self.ready(url))
            return said["problem"] is not None

        await happens(told, SECONDS, "That a replica tells of its problem")
        return said

    async def chat(self, model: str = "policy", url: str = "") -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as http:
            return await http.post(f"{url or self.site.url}/v1/chat/completions", json=body)

    async def speaker(self, model: str = "policy", url: str = "") -> str:
        """Chat; return the version that all parts of the reply agree on."""
        answer = await self.chat(model, url)
        assert answer.status_code == 200, answer.text
        version = answer.headers["x-policy-version"]
        assert answer.json()["system_fingerprint"] == version
        assert answer.json()["choices"][0]["message"]["content"] == f"I am {version}"
        return str(version)


def flip_byte(path: Path) -> None:
    """Change one byte of a file's data."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x01
    path.write_bytes(bytes(content))


def only_pickle(folder: Path) -> None:
    """Leave a version's folder with what an older PEFT writes: weights as a pickle, no others.

    The manifest is made to say so.
    """
    weights, pickle = folder / WEIGHTS_FILE, folder / BIN_FILE
    weights.rename(pickle)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][BIN_FILE] = manifest["files"].pop(WEIGHTS_FILE)
    path.write_text(json.dumps(manifest))
