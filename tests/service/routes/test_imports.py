from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from models.adapters import CONFIG_FILE, STATE_FILE, WEIGHTS_FILE, AdapterStore
from tests.support.models.adapter_files import write_adapter, write_base, write_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import Happens, ListeningApp, RunningApp, StartApp

pytestmark = pytest.mark.anyio

LIMIT = 200_000


@pytest.fixture
def service_settings(service_settings: ServiceSettings, tmp_path: Path) -> ServiceSettings:
    write_base(tmp_path / "tiny")
    return service_settings.model_copy(
        update={
            "base_model": str(tmp_path / "tiny"),
            "lora_rank": 2,
            "lora_alpha": 4,
            "import_max_bytes": LIMIT,
            "max_body_bytes": 20_000,
        }
    )


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    """The server's folder of imports, with an adapter in it."""
    folder = tmp_path / "imports" / "theirs"
    folder.mkdir(parents=True)
    write_adapter(folder)
    write_state(folder)
    return folder.parent


@pytest.fixture
def archive(imports: Path, service_settings: ServiceSettings, tmp_path: Path) -> bytes:
    """A .tar.gz of that adapter; it is larger than what other routes take."""
    (imports / "theirs" / "ballast").write_bytes(bytes(range(256)) * 200)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        packed.add(imports / "theirs", "theirs")
    assert len(out.getvalue()) > 20_000
    return out.getvalue()


async def post(
    running: RunningApp, content: bytes, kind: str = "application/x-tar", **query: str
) -> Any:
    return await running.client.post(
        "/admin/versions", content=content, headers={"content-type": kind}, params=query
    )


def left(tmp_path: Path) -> list[str]:
    root = tmp_path / "adapters"
    return [p.name for p in root.iterdir()] if root.exists() else []


async def test_an_archive_becomes_a_candidate(
    running: RunningApp, archive: bytes, store: Store, tmp_path: Path
) -> None:
    answer = await post(running, archive, why="From Ann.", name="anns")
    assert answer.status_code == 201
    found = answer.json()
    version = found["version"]
    assert answer.headers["location"] == f"/admin/versions/{version}"
    assert (found["state"], found["parent"], found["run"]) == ("candidate", "base", None)
    assert found["manifest"]["kind"] == "imported"
    assert found["manifest"]["source"] == "anns"
    assert await store.versions.ungated() == version
    event = (await store.rollout.events(1))[0]
    assert (event.action, event.new, event.who, event.why) == (
        "import",
        version,
        "open",
        "From Ann.",
    )
    assert left(tmp_path) == [version]
    names = {p.name for p in (tmp_path / "adapters" / version).iterdir()}
    assert {CONFIG_FILE, WEIGHTS_FILE, STATE_FILE} <= names


@pytest.mark.parametrize("path", ["theirs", "./theirs"])
async def test_a_folder_on_the_server_becomes_a_candidate(
    running: RunningApp, imports: Path, path: str
) -> None:
    answer = await running.client.post("/admin/versions", json={"path": path, "why": "x"})
    assert answer.status_code == 201
    assert answer.json()["manifest"]["source"] == "theirs"


@pytest.mark.parametrize(
    "path", ["../tiny", "/etc", "..", ".", "theirs/../../tiny", "link", "\x00", "a" * 999, "no"]
)
async def test_only_the_folder_of_imports_can_be_named(
    running: RunningApp, imports: Path, tmp_path: Path, path: str
) -> None:
    (imports / "link").symlink_to(tmp_path / "tiny")
    answer = await running.client.post("/admin/versions", json={"path": path})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "path"
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "body", ["{", "[]", "{}", '{"path": 3}', '{"path": ""}', '{"path": "x", "y": 1}', "[" * 9999]
)
async def test_a_body_that_makes_no_sense_is_refused(running: RunningApp, body: str) -> None:
    answer = await post(running, body.encode(), "application/json")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_value"


async def test_the_json_body_gets_no_more_room_than_elsewhere(running: RunningApp) -> None:
    answer = await post(running, b" " * 20_001, "application/json")
    assert answer.status_code == 413


async def test_an_upload_over_the_limit_is_refused(running: RunningApp, tmp_path: Path) -> None:
    declared = await post(running, bytes(LIMIT + 1))
    assert declared.status_code == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(LIMIT // 2)

    streamed = await running.client.post(
        "/admin/versions", content=chunks(), headers={"content-type": "application/gzip"}
    )
    assert streamed.status_code == 413
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/admin/rollout/activate"),
        ("PUT", "/admin/versions"),
        ("POST", "/admin/versions/"),
        ("POST", "/admin/keys"),
    ],
)
async def test_other_routes_keep_their_limit(running: RunningApp, method: str, path: str) -> None:
    answer = await running.client.request(method, path, content=bytes(20_001))
    assert answer.status_code == 413


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", ""])
async def test_another_type_is_told_what_to_send(running: RunningApp, kind: str) -> None:
    answer = await post(running, b"x", kind)
    assert answer.status_code == 400
    assert "application/gzip" in answer.json()["error"]["message"]


async def test_a_refused_import_says_why_and_takes_no_number(
    running: RunningApp, imports: Path, store: Store, tmp_path: Path
) -> None:
    write_adapter(imports / "theirs", use_dora=True)
    answer = await running.client.post("/admin/versions", json={"path": "theirs"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "import_refused"
    assert "use_dora" in answer.json()["error"]["message"]
    assert left(tmp_path) == []
    assert await store.versions.ungated() is None
    assert await store.versions.next_sequence() == 1


async def test_garbage_is_refused(running: RunningApp, tmp_path: Path) -> None:
    answer = await post(running, b"garbage" * 100, "application/octet-stream")
    assert answer.status_code == 400
    assert "an upload cannot be read" in answer.json()["error"]["message"]
    assert left(tmp_path) == []


async def test_a_version_goes_out_and_comes_in_again(
    running: RunningApp, imports: Path, store: Store, tmp_path: Path
) -> None:
    imported = await running.client.post("/admin/versions", json={"path": "theirs"})
    version = imported.json()["version"]
    for form, kind in (("tar.gz", "application/gzip"), ("zip", "application/zip")):
        path = f"/admin/versions/{version}/archive"
        sent = await running.client.get(path, params={"format": form})
        assert sent.status_code == 200
        assert sent.headers["content-type"] == kind
        assert sent.headers["content-length"] == str(len(sent.content))
        assert f"{version}.{form}" in sent.headers["content-disposition"]
        again = (await running.client.get(path, params={"format": form})).content
        assert sent.content == again
        back = await post(running, sent.content, kind)
        assert back.status_code == 201
        assert back.json()["version"][8:] == version[8:]
        assert back.json()["manifest"]["source"] == version
    assert all(name.startswith("v") for name in left(tmp_path))


async def test_the_learners_state_can_be_left_out(running: RunningApp, imports: Path) -> None:
    imported = await running.client.post("/admin/versions", json={"path": "theirs"})
    path = f"/admin/versions/{imported.json()['version']}/archive"
    sent = await running.client.get(path, params={"format": "tar", "state": "false"})
    assert STATE_FILE.encode() not in sent.content
    assert WEIGHTS_FILE.encode() in sent.content


async def test_what_cannot_be_sent_is_told(
    running: RunningApp, imports: Path, service_settings: ServiceSettings
) -> None:
    unknown = await running.client.get("/admin/versions/v000009-000000000009/archive")
    assert unknown.status_code == 404
    base = await running.client.get("/admin/versions/base/archive")
    assert base.status_code == 400
    imported = await running.client.post("/admin/versions", json={"path": "theirs"})
    path = f"/admin/versions/{imported.json()['version']}/archive"
    assert (await running.client.get(path, params={"format": "rar"})).status_code == 400
    await running.client.post("/admin/versions", json={"path": "theirs"})
    AdapterStore.open(service_settings).keep(set(), last=1)
    gone = await running.client.get(path)
    assert gone.status_code == 404
    assert "THUMBLOOP_KEEP_VERSIONS" in gone.json()["error"]["message"]


async def test_a_name_that_is_no_text_is_refused_in_words(running: RunningApp) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        link = tarfile.TarInfo("\udcffconfig")
        link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
        packed.addfile(link)
    answer = await post(running, out.getvalue())
    assert answer.status_code == 400
    assert "config is a symbolic link" in answer.json()["error"]["message"]


async def test_a_full_disk_is_told_and_leaves_nothing(
    running: RunningApp, imports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = await running.client.post("/admin/versions", json={"path": "theirs"})
    version = taken.json()["version"]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AdapterStore, "write_archive", full)
    answer = await running.client.get(f"/admin/versions/{version}/archive")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "disk_unavailable"
    assert left(tmp_path) == [version]


async def test_only_an_admins_key_may_import_and_export(
    running: RunningApp, imports: Path, archive: bytes, store: Store, happens: Happens
) -> None:
    _, key = await store.keys.create("chat only", frozenset({"chat"}), now=1.0)
    await happens(lambda: running.runtime.authenticator.keyed)
    for headers, status in (({}, 401), ({"authorization": f"Bearer {key}"}, 403)):
        sent = await running.client.post("/admin/versions", content=archive, headers=headers)
        assert sent.status_code == status
        got = await running.client.get("/admin/versions/base/archive", headers=headers)
        assert got.status_code == status


async def test_nothing_is_left_when_redis_is_away(
    start_app: StartApp,
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    away: Store,
    imports: Path,
    tmp_path: Path,
) -> None:
    async with start_app(service_settings, generator, away, started=False) as running:
        running.runtime.authenticator.keyed = False
        answer = await running.client.post("/admin/versions", json={"path": "theirs"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "store_unavailable"
    assert left(tmp_path) == []


def test_an_upload_that_breaks_off_leaves_nothing(
    listening: ListeningApp, tmp_path: Path, until: Callable[..., None]
) -> None:
    import socket
    from urllib.parse import urlsplit

    url = urlsplit(listening.url)
    with socket.create_connection((url.hostname, url.port)) as line:
        line.sendall(
            b"POST /admin/versions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/zip\r\n"
            b"content-length: 100000\r\n\r\n" + bytes(1000)
        )
        until(lambda: left(tmp_path) != [])
    until(lambda: left(tmp_path) == [])
    assert httpx.get(f"{listening.url}/livez").is_success
    assert json.loads(httpx.get(f"{listening.url}/admin/versions").text)["data"][0]["version"] == (
        "base"
    )
