"""Numbers 16, 17, 18 and 21: what is wrong with a version's files never reaches a user."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

from service.operating.convergence import converged
from tests.support.faults.access_log import touched
from tests.support.faults.site import ROOT, Site
from tests.support.faults.versions import Versions, flip_byte, only_pickle

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.store import Store
    from tests.support.faults.processes import Child

pytestmark = pytest.mark.anyio
NOT_VERSIONS = ("../../secret/x", "/etc/passwd", "v000001-0123456789ab/../../../secret/x", "..")


@pytest.fixture
def secret(site: Site) -> Path:
    """Return a folder outside the adapters' that nobody may look into."""
    folder = site.data_dir.parent / "secret"
    (folder / "x").mkdir(parents=True)
    return folder


@pytest.fixture
def versions(site: Site, store: Store, secret: Path) -> Versions:
    site.environment |= {
        "FAULTS_ADAPTERS": "checked",
        "FAULTS_TOUCHED": str(site.data_dir / "touched"),
        "FAULTS_FORBIDDEN": str(secret),
        "HF_HUB_OFFLINE": "0",
    }
    return Versions(site, store)


def notes(site: Site) -> str:
    return (site.data_dir / "touched").read_text()


async def test_a_flipped_byte_is_refused_and_the_old_version_serves_on(
    site: Site, store: Store, versions: Versions
) -> None:
    old, new = await versions.publish(1), await versions.publish(2)
    await site.start_api()
    await versions.serve(old)
    flip_byte(versions.folder / new / "adapter_model.safetensors")
    async with httpx.AsyncClient(base_url=site.url, trust_env=False) as http:
        refused = await http.post("/admin/rollout/activate", json={"version": new})
    assert refused.status_code == 409, refused.text
    assert (await store.rollout.get()).live == old
    # A file that breaks after the check, or that only this replica has broken.
    generation = await versions.activate(new)
    said = await versions.problem()
    assert said["serving"] == old
    assert new in said["problem"]
    assert "altered" in said["problem"]
    assert {await versions.speaker() for _ in range(20)} == {old}
    found = await converged(store, generation, 30)
    assert not found.all
    (missing,) = found.missing
    assert (missing.serving, missing.url) == (old, site.url)
    assert "altered" in missing.problem
    assert found.seconds < 5


async def test_a_pickle_alone_is_refused_and_nobody_is_called(
    site: Site, store: Store, versions: Versions
) -> None:
    old, new = await versions.publish(1), await versions.publish(2)
    await site.start_api()
    await versions.serve(old)
    only_pickle(versions.folder / new)
    assert (await versions.chat(f"policy@{new}")).status_code == 404
    await versions.activate(new)
    said = await versions.problem()
    assert said["serving"] == old
    assert "adapter_model.safetensors" in said["problem"]
    assert await versions.speaker() == old
    assert notes(site) == ""


async def test_what_is_no_version_is_400_everywhere_and_nothing_is_read(
    site: Site, versions: Versions, secret: Path
) -> None:
    old = await versions.publish(1)
    await site.start_api()
    await versions.serve(old)
    shutil.copytree(versions.folder / old, secret / "x", dirs_exist_ok=True)
    async with httpx.AsyncClient(base_url=site.url, trust_env=False) as http:
        for name in NOT_VERSIONS:
            answers = {
                "chat": await versions.chat(f"policy@{name}"),
                "activate": await http.post("/admin/rollout/activate", json={"version": name}),
                "rollback": await http.post("/admin/rollout/rollback", json={"to": name}),
                "canary": await http.post(
                    "/admin/rollout/canary", json={"version": name, "fraction": 0.5}
                ),
            }
            statuses = {key: answer.status_code for key, answer in answers.items()}
            assert set(statuses.values()) == {400}, (name, statuses)
            shown = await http.get(f"/admin/versions/{quote(name, safe='')}")
            assert shown.status_code in {400, 404}, shown.text
    assert notes(site) == ""
    assert await versions.speaker() == old


async def test_a_link_is_refused_and_not_followed(
    site: Site, store: Store, versions: Versions, secret: Path
) -> None:
    old, whole, part = [await versions.publish(number) for number in (1, 2, 3)]
    await site.start_api()
    await versions.serve(old)
    (versions.folder / whole).rename(secret / "whole")
    (versions.folder / whole).symlink_to(secret / "whole")
    (versions.folder / part / "adapter_model.safetensors").rename(secret / "weights")
    (versions.folder / part / "adapter_model.safetensors").symlink_to(secret / "weights")
    async with httpx.AsyncClient(base_url=site.url, trust_env=False) as http:
        for version in (whole, part):
            assert (await versions.chat(f"policy@{version}")).status_code == 404
            refused = await http.post("/admin/rollout/activate", json={"version": version})
            assert refused.status_code == 409, refused.text
    assert (await store.rollout.get()).live == old
    assert notes(site) == ""
    assert command(site, "versions", "activate", whole).returncode != 0
    assert (await store.rollout.get()).live == old
    assert notes(site) == ""


async def test_the_command_line_reads_nothing_of_what_is_no_version(
    site: Site, store: Store, versions: Versions, secret: Path
) -> None:
    old = await versions.publish(1)
    shutil.copytree(versions.folder / old, secret / "x", dirs_exist_ok=True)
    for words in (["versions", "activate"], ["versions", "rollback", "--to"]):
        done = command(site, *words, NOT_VERSIONS[0])
        assert done.returncode != 0
        assert b"Traceback" not in done.stderr
    assert notes(site) == ""
    assert (await store.rollout.get()).live == "base"


def command(site: Site, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a ``thumbloop`` command that is watched."""
    return subprocess.run(
        [sys.executable, "-m", "tests.support.faults.access_log", *words],
        env={**os.environ, **site.environment},
        cwd=site.data_dir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def test_the_watch_sees_what_it_is_to_see(tmp_path: Path) -> None:
    there, inside = str(tmp_path), str(tmp_path / "adapters" / ".." / "file")
    assert touched("open", (inside, "r", 0), there)
    assert touched("open", (str(tmp_path.parent / "other"), "r", 0), there) is None
    assert touched("socket.getaddrinfo", ("huggingface.co", 443, 0, 0, 0), there)
    assert touched("socket.connect", (socket.socket, ("52.0.0.1", 443)), there)
    assert touched("socket.connect", (socket.socket, ("127.0.0.1", 443)), there) is None
    code = (
        "import socket; from tests.support.faults.access_log import note_touched; note_touched();"
        "open('secret/f').close();"
        "\ntry: socket.getaddrinfo('nobody.invalid', 80)\nexcept OSError: pass"
    )
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "f").touch()
    watched = {"FAULTS_TOUCHED": f"{tmp_path}/notes", "FAULTS_FORBIDDEN": f"{tmp_path}/secret"}
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **watched},
        cwd=tmp_path,
        check=True,
    )
    opened, called = (tmp_path / "notes").read_text().splitlines()
    assert opened == f"open {os.path.realpath(tmp_path)}/secret/f"
    assert "nobody.invalid" in called


@pytest.mark.parametrize("fault", ["missing", "corrupt"])
async def test_a_start_with_a_broken_live_version_serves_the_last_good_one_and_says_so(
    site: Site, store: Store, versions: Versions, fault: str
) -> None:
    good, broken = await versions.publish(1), await versions.publish(2)
    api = await site.start_api()
    await versions.serve(good)
    await stop(api)
    assert await store.replicas.list() == []
    break_version(versions, broken, fault)
    generation = await versions.activate(broken)
    await site.start_api()
    said = await versions.ready()
    assert (said["serving"], said["live"]) == (good, broken)
    assert broken in said["problem"]
    assert said["generation"] < generation
    assert await versions.speaker() == good
    (replica,) = await store.replicas.list()
    assert (replica.serving, replica.read_generation) == (good, generation)
    assert broken in (replica.problem or "")


async def test_without_any_good_version_the_base_serves(
    site: Site, store: Store, versions: Versions
) -> None:
    first, second = await versions.publish(1), await versions.publish(2)
    api = await site.start_api()
    await versions.serve(first)
    await stop(api)
    break_version(versions, first, "corrupt")
    break_version(versions, second, "missing")
    await versions.activate(second)
    await site.start_api()
    said = await versions.ready()
    assert (said["serving"], said["live"]) == ("base", second)
    assert second in said["problem"]
    assert await versions.speaker() == "base"


def break_version(versions: Versions, version: str, fault: str) -> None:
    folder = versions.folder / version
    if fault == "missing":
        shutil.rmtree(folder)
    else:
        flip_byte(folder / "adapter_model.safetensors")


async def stop(api: Child) -> None:
    assert await asyncio.to_thread(api.terminate) == 0
