"""A made-up base of two layers, adapters for it, and an S3 server on this machine."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from models.adapters import AdapterRequirements, AdapterStore, Origin
from models.base.files import BaseFacts
from tests.support.models.adapter_files import BASE_HASH, LINEARS, write_adapter, write_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BUCKET = "adapters"


@pytest.fixture
def wanted() -> AdapterRequirements:
    return AdapterRequirements(
        BaseFacts("tiny", BASE_HASH, LINEARS), rank=2, alpha=4, max_bytes=1 << 20
    )


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "adapters")


@pytest.fixture
def peft_folder(tmp_path: Path) -> Path:
    """A folder as PEFT saves it: no manifest, and a file that is nobody's business."""
    folder = tmp_path / "somebodys"
    folder.mkdir()
    write_adapter(folder)
    (folder / "README.md").write_text("An adapter.")
    return folder


@pytest.fixture
def rewrite(peft_folder: Path) -> Callable[..., None]:
    """Write the PEFT folder's two files anew, with other options."""

    def write(**changes: Any) -> None:
        write_adapter(peft_folder, **changes)

    return write


@pytest.fixture
def publish_to() -> Callable[..., str]:
    """Publish what a learner made, with its state, into a store."""

    def publish(store: AdapterStore, sequence: int, **changes: Any) -> str:
        def write(folder: Path) -> None:
            write_adapter(folder, lora_dropout=sequence / 100)
            write_state(folder)

        origin = Origin("base", sequence, f"batch-{sequence}", 3, "tiny", BASE_HASH, 1.5, **changes)
        return store.publish(sequence, origin, write).version

    return publish


@pytest.fixture
def publish(store: AdapterStore, publish_to: Callable[..., str]) -> Callable[..., str]:
    """Publish into the test's own store."""
    return functools.partial(publish_to, store)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of an S3 server on this machine, with nothing in it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An fsspec URL of an empty prefix on that server; keys and address as users set them."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"{s3_server}/moto-api/reset", trust_env=False).raise_for_status()
    httpx.put(f"{s3_server}/{BUCKET}", trust_env=False).raise_for_status()
    return f"s3://{BUCKET}/some/prefix"
