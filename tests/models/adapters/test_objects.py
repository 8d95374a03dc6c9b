from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from models.adapters import CONFIG_FILE, MANIFEST_FILE, STATE_FILE, WEIGHTS_FILE, AdapterStore
from models.adapters import objects as objects_module
from models.adapters.objects import ObjectStore
from models.errors import AdapterError, AdapterStoreUnavailableError, ModelsError
from models.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Publish = Callable[..., str]
    Open = Callable[[str], AdapterStore]

everywhere = pytest.mark.parametrize("url", ["memory", "file", "s3"], indirect=True)
"""Runs a test on fsspec's own stores and on an S3 server; the others run in memory."""


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty prefix in an object store."""
    kind = getattr(request, "param", "memory")
    if kind == "s3":
        return request.getfixturevalue("s3_url")
    if kind == "file":
        return f"file://{tmp_path}/share"
    return f"memory://{tmp_path.name}-{os.getpid()}"


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Open:
    """Open the store as one machine does, with a data folder of its own."""

    def open_store(name: str) -> AdapterStore:
        return AdapterStore.open(ModelSettings(data_dir=tmp_path / name, adapter_store=url))

    return open_store


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@everywhere
def test_what_one_machine_publishes_another_fetches(machine: Open, publish_to: Publish) -> None:
    one, other = machine("one"), machine("other")
    version = publish_to(one, 1)
    assert other.published() == [version]
    folder = other.fetch(version)
    assert contents(folder) == contents(one.path(version))
    assert set(contents(folder)) == {CONFIG_FILE, WEIGHTS_FILE, STATE_FILE, MANIFEST_FILE}
    assert other.verify(version) == one.verify(version)
    assert {p.name for p in folder.parent.iterdir()} == {version, ".fetch.lock"}


def test_a_version_that_is_here_is_not_asked_for(
    machine: Open, publish_to: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine("one")
    version = publish_to(store, 1)
    monkeypatch.setattr(store, "_objects", None)
    store.fetch(version)


@pytest.mark.parametrize("damage", ["cut", "flip", "lose", "link", "manifest"])
def test_a_damaged_copy_is_fetched_again(
    machine: Open, publish_to: Publish, tmp_path: Path, damage: str
) -> None:
    one, other = machine("one"), machine("other")
    version = publish_to(one, 1)
    folder = other.fetch(version)
    weights = folder / WEIGHTS_FILE
    whole = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(whole[:-1])
    elif damage == "flip":
        weights.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    elif damage == "manifest":
        (folder / MANIFEST_FILE).write_text("{")
    else:
        weights.unlink()
        if damage == "link":
            (tmp_path / "w").write_bytes(whole)
            weights.symlink_to(tmp_path / "w")
    assert contents(other.fetch(version)) == contents(one.path(version))


@everywhere
@pytest.mark.parametrize("learned_again", [False, True])
def test_what_is_damaged_in_the_store_is_published_again(
    machine: Open, publish_to: Publish, learned_again: bool
) -> None:
    one, two, three = machine("one"), machine("two"), machine("three")
    version = publish_to(one, 1)
    objects = one._objects
    objects._files.pipe_file(objects._path(version, WEIGHTS_FILE), b"x")
    if learned_again:
        assert two.find_batch(1, "batch-1", "base") is None
        publish_to(two, 1)
    else:
        assert one.find_batch(1, "batch-1", "base") is not None
    assert contents(three.fetch(version)) == contents(one.path(version))


@everywhere
def test_many_fetchers_at_once_get_a_whole_one_each(machine: Open, publish_to: Publish) -> None:
    """Threads share a cache as processes on one machine do; the download happens once."""
    version = publish_to(machine("one"), 1)
    stores = [machine("other") for _ in range(8)]
    downloads: list[str] = []
    for store in stores:
        _count_downloads(store, downloads)
    barrier = threading.Barrier(len(stores))

    def fetch(store: AdapterStore) -> set[str]:
        barrier.wait()
        return set(contents(store.fetch(version)))

    with ThreadPoolExecutor(len(stores)) as pool:
        found = list(pool.map(fetch, stores))
    assert found == [{CONFIG_FILE, WEIGHTS_FILE, STATE_FILE, MANIFEST_FILE}] * len(stores)
    assert downloads == [version]


def _count_downloads(store: AdapterStore, downloads: list[str]) -> None:
    objects = store._objects
    download = objects.download

    def counted(version: str, folder: Path) -> None:
        downloads.append(version)
        download(version, folder)

    objects.download = counted


class DiesError(Exception):
    """The publisher dies here."""


class Mortal:
    """A file system whose user dies before its n-th write."""

    def __init__(self, files: Any, writes: int) -> None:
        self._files = files
        self.left = writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._files, name)
        return self._write(found) if name in {"put_file", "pipe_file", "rm_file"} else found

    def _write(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            if self.left == 0:
                raise DiesError
            self.left -= 1
            return do(*args, **options)

        return write


def mortal(store: AdapterStore, writes: int) -> AdapterStore:
    store._objects._files = Mortal(store._objects._files, writes)
    return store


@pytest.mark.parametrize("writes", range(5))
def test_a_publisher_that_dies_at_any_write_leaves_no_half(
    machine: Open, publish_to: Publish, writes: int
) -> None:
    dying, other = mortal(machine("one"), writes), machine("other")
    if writes < 4:
        with pytest.raises(AdapterStoreUnavailableError, match="DiesError"):
            publish_to(dying, 1)
        assert other.published() == []
        (version,) = dying.path("v000001-000000000000").parent.glob("v000001-*")
        with pytest.raises(AdapterError, match="restore it from a backup"):
            other.fetch(version.name)
        assert other.find_batch(1, "batch-1", "base") is None
        # The next learner on its machine finds what it left, and publishes that.
        found = machine("one").find_batch(1, "batch-1", "base")
        assert found is not None
    else:
        publish_to(dying, 1)
    (version_id,) = other.published()
    assert set(contents(other.fetch(version_id))) == {
        CONFIG_FILE,
        WEIGHTS_FILE,
        STATE_FILE,
        MANIFEST_FILE,
    }


@pytest.mark.parametrize("writes", range(5))
def test_a_remover_that_dies_at_any_write_leaves_no_half(
    machine: Open, publish_to: Publish, writes: int
) -> None:
    """One write keeps the manifest, then four objects go, the manifest first."""
    one = machine("one")
    old, new = publish_to(one, 1), publish_to(one, 2)
    with pytest.raises(AdapterStoreUnavailableError):
        mortal(machine("two"), writes).keep(set(), last=1)
    other = machine("other")
    if old in other.published():
        other.fetch(old)
    else:
        with pytest.raises(AdapterError, match="weights were removed"):
            other.fetch(old)
    assert machine("three").keep(set(), last=1) == ([old] if writes < 2 else [])
    assert other.published() == [new]


@everywhere
def test_another_machine_finds_the_batch_of_a_dead_learner(
    machine: Open, publish_to: Publish
) -> None:
    version = publish_to(machine("one"), 1)
    other = machine("other")
    found = other.find_batch(1, "batch-1", "base")
    assert found is not None
    assert found.version == version
    assert other.find_batch(1, "another", "base") is None
    assert other.find_batch(2, "batch-1", "base") is None


def test_publishing_again_changes_nothing(machine: Open, publish_to: Publish) -> None:
    one, two = machine("one"), machine("two")
    version = publish_to(one, 1)
    assert publish_to(mortal(two, 0), 1) == version


def test_a_half_written_manifest_is_written_again(machine: Open, publish_to: Publish) -> None:
    """Not every store writes whole objects only."""
    one = machine("one")
    version = publish_to(one, 1)
    objects = one._objects
    objects._files.pipe_file(objects._path(version, MANIFEST_FILE), b'{"version": "v')
    with pytest.raises(AdapterError, match="no readable"):
        machine("other").fetch(version)
    assert one.find_batch(1, "batch-1", "base") is not None
    machine("other").fetch(version)


@everywhere
def test_an_altered_object_is_refused_and_nothing_is_kept(
    machine: Open, publish_to: Publish
) -> None:
    one, other = machine("one"), machine("other")
    version = publish_to(one, 1)
    objects = one._objects
    objects._files.pipe_file(objects._path(version, WEIGHTS_FILE), b"altered")
    with pytest.raises(AdapterError, match="was altered"):
        other.fetch(version)
    assert [p.name for p in other.path(version).parent.iterdir()] == [".fetch.lock"]


def test_a_lost_object_is_refused(machine: Open, publish_to: Publish) -> None:
    one = machine("one")
    version = publish_to(one, 1)
    one._objects._files.rm_file(one._objects._path(version, WEIGHTS_FILE))
    with pytest.raises(AdapterError, match="missing from the adapter store"):
        machine("other").fetch(version)


def test_a_manifest_in_the_store_that_names_a_path_is_refused(
    machine: Open, publish_to: Publish
) -> None:
    one = machine("one")
    version = publish_to(one, 1)
    raw = json.loads((one.path(version) / MANIFEST_FILE).read_text())
    raw["files"]["../../x"] = "0" * 64
    path = one._objects._path(version, MANIFEST_FILE)
    one._objects._files.pipe_file(path, json.dumps(raw).encode())
    with pytest.raises(AdapterError, match="leads out"):
        machine("other").fetch(version)


@everywhere
def test_removed_versions_leave_the_other_machines_too(machine: Open, publish_to: Publish) -> None:
    one, other = machine("one"), machine("other")
    versions = [publish_to(one, number) for number in (1, 2, 3)]
    other.fetch(versions[0])
    assert one.keep({versions[1]}, last=1) == [versions[0]]
    assert one.published() == versions[1:]
    other.fetch(versions[2])
    assert not other.path(versions[0]).exists()
    with pytest.raises(AdapterError, match="weights were removed"):
        other.fetch(versions[0])


def test_a_copy_that_only_this_machine_has_is_not_swept_by_a_download(
    machine: Open, publish_to: Publish
) -> None:
    """It may be one that is being published at this moment."""
    one, other = machine("one"), machine("other")
    version = publish_to(one, 1)
    with pytest.raises(AdapterStoreUnavailableError):
        publish_to(mortal(machine("other"), 0), 2)
    other.fetch(version)
    assert len(list(other.path(version).parent.glob("v000002-*"))) == 1


@everywhere
def test_only_old_beginnings_are_swept(
    machine: Open, publish_to: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine("one")
    version = publish_to(one, 1)
    with pytest.raises(AdapterStoreUnavailableError):
        publish_to(mortal(machine("dead"), 2), 2)
    (partial,) = one._objects.listing().partial
    one.sweep_scratch(fence=9)
    assert one._objects.listing().partial == {partial}
    monkeypatch.setattr(objects_module, "ABANDONED_SECONDS", -100.0)
    one.sweep_scratch(fence=9)
    listing = one._objects.listing()
    assert (listing.partial, listing.published) == (frozenset(), {version})


def test_a_removed_version_is_gone_everywhere(machine: Open, publish_to: Publish) -> None:
    one = machine("one")
    version = publish_to(one, 1)
    one.remove(version)
    assert one.published() == []
    assert machine("other")._objects.listing() == one._objects.listing()


def test_a_store_that_is_away_is_no_adapters_fault(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch, publish_to: Publish
) -> None:
    settings = ModelSettings(data_dir=tmp_path / "one", adapter_store=s3_url)
    here = publish_to(AdapterStore.open(settings), 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = AdapterStore.open(settings)
    assert store.fetch(here).is_dir()  # what is on this machine needs nobody
    with pytest.raises(
        AdapterStoreUnavailableError, match="THUMBLOOP_ADAPTER_STORE is right"
    ) as caught:
        store.fetch("v000002-000000000000")
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, ModelsError)
    assert not isinstance(caught.value, AdapterError)


def test_a_bucket_that_is_not_there_is_told(
    tmp_path: Path, s3_url: str, publish_to: Publish
) -> None:
    settings = ModelSettings(data_dir=tmp_path, adapter_store="s3://nothing/here")
    with pytest.raises((AdapterError, AdapterStoreUnavailableError), match="adapter store"):
        publish_to(AdapterStore.open(settings), 1)


@pytest.mark.parametrize("url", ["nothing://x/y", "gs://bucket/x"])
def test_a_store_that_nobody_here_speaks_to_is_told(tmp_path: Path, url: str) -> None:
    with pytest.raises(AdapterError, match=r"THUMBLOOP_ADAPTER_STORE=.* cannot be used"):
        AdapterStore.open(ModelSettings(data_dir=tmp_path, adapter_store=url))


def test_a_folder_is_no_object_store(tmp_path: Path) -> None:
    settings = ModelSettings(data_dir=tmp_path, adapter_store=str(tmp_path / "x"))
    assert (settings.adapters_url, settings.adapters_dir) == (None, tmp_path / "x")
    assert AdapterStore.open(settings)._objects is None


def test_paths_in_the_bucket_are_those_that_the_url_names(
    s3_url: str, tmp_path: Path, publish_to: Publish
) -> None:
    store = AdapterStore.open(ModelSettings(data_dir=tmp_path, adapter_store=s3_url + "/"))
    version = publish_to(store, 1)
    files, _ = fsspec.url_to_fs("s3://adapters", use_listings_cache=False)
    assert f"adapters/some/prefix/{version}/{MANIFEST_FILE}" in files.find("adapters")


def test_an_object_store_needs_a_plain_id(url: str, tmp_path: Path) -> None:
    store = AdapterStore(tmp_path, ObjectStore.open(url))
    for use in (store.fetch, store.verify, store.remove):
        with pytest.raises(AdapterError, match="not an adapter's id"):
            use("../../x")
