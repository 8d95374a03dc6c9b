"""Number 15: the power is cut around the rename; the old state or the new one, never half."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from feedback.store import keys
from models.adapters import (
    CONFIG_FILE,
    MANIFEST_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    AdapterStore,
    Origin,
    folders,
)
from models.errors import AdapterError
from tests.support.faults.disk import Disk, Recorder, Sync, crashes, lay_out
from tests.support.faults.learners import Electorate, balance
from tests.support.workers.fake_learner import make_place
from workers.update import run_update

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.store import Store
    from tests.support.faults.site import Site

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names a file by its handle"),
]

ORIGIN = Origin("base", 7, "batch", 3, "tiny", "0" * 64, 1.5)
FILES = {CONFIG_FILE: b'{"r": 8}', WEIGHTS_FILE: b"weights" * 9, STATE_FILE: b"moments" * 5}
MOST = 120
"""Disks drawn for each moment of the cut."""


class CutOffError(Exception):
    """The learner dies here; the machine goes on."""


def write_files(folder: Path) -> None:
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def publish(top: Path) -> str:
    return AdapterStore(top / "adapters").publish(7, ORIGIN, write_files).version


def recorded(top: Path, *, before: str = "") -> Recorder:
    """Record the steps of a publication.

    Args:
        before: What lies there from earlier: ``damaged``, a damaged folder of the same version;
            ``unsynced``, a whole one whose learner died before it could sync its name.
    """
    with pytest.MonkeyPatch.context() as patch:
        if before == "damaged":
            version = publish(top)
            (top / "adapters" / version / WEIGHTS_FILE).write_bytes(b"weig")
        recorder = Recorder(top)
        recorder.watch(patch)
        if before == "unsynced":
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(folders, "failpoint", die_after_rename)
                with pytest.raises(CutOffError):
                    publish(top)
            assert AdapterStore(top / "adapters").find_batch(7, "batch", "base") is not None
        else:
            publish(top)
        recorder.stop()
    return recorder


def die_after_rename(name: str) -> None:
    if name == "publish.after_rename":
        raise CutOffError


def examine(disk: Disk, top: Path) -> str:
    """Look at a disk as the next learner does, and let it recover; return what it found."""
    lay_out(disk, top)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _handle: None)  # no second power cut: be quick
        return recover(top)


def recover(top: Path) -> str:
    adapters = AdapterStore(top / "adapters")
    seen = {version: is_whole(adapters, version) for version in adapters.published()}
    found = adapters.find_batch(7, "batch", "base")
    assert (found is not None) == any(seen.values())
    if found is not None:
        assert_whole(top, found.version)
    version = publish(top)
    assert_whole(top, version)
    adapters.sweep_scratch(fence=4)
    left = {p.name for p in (top / "adapters").iterdir() if not p.name.startswith("damaged-")}
    assert left == {version}
    shutil.rmtree(top)
    return "whole" if found else "damaged" if seen else "old"


def is_whole(adapters: AdapterStore, version: str) -> bool:
    try:
        adapters.verify(version)
    except AdapterError:
        return False
    return True


def assert_whole(top: Path, version: str) -> None:
    folder = top / "adapters" / version
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != MANIFEST_FILE} == FILES


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    (tmp_path / "top").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("before", "possible"),
    [
        ("", {"old", "whole"}),
        ("unsynced", {"old", "whole"}),
        ("damaged", {"old", "whole", "damaged"}),
    ],
)
def test_whatever_the_disk_kept_is_the_old_state_or_the_whole_new_one(
    scenes: Path, before: str, possible: set[str]
) -> None:
    recorder = recorded(scenes / "top", before=before)
    steps = recorder.steps
    found: Counter[str] = Counter()
    at_the_end: Counter[str] = Counter()
    disks = crashes(steps, MOST, settled=recorder.settled)
    for number, (count, disk) in enumerate(disks):
        state = examine(disk, scenes / f"disk{number}")
        found[state] += 1
        if count == len(steps):
            at_the_end[state] += 1
    print(
        f"{len(steps) - recorder.settled} steps, {found.total()} disks: {dict(found)}; "
        f"once published {dict(at_the_end)}"
    )
    assert set(found) == possible
    assert set(at_the_end) == {"whole"}, "published, and not on the disk"


def test_a_disk_that_syncs_nothing_leaves_half_folders_and_none_is_taken_as_good(
    scenes: Path,
) -> None:
    """Shows at the same time that the model can leave half a folder: without syncs it does."""
    steps = recorded(scenes / "top").steps
    lying = [step for step in steps if not isinstance(step, Sync)]
    found = Counter(
        examine(disk, scenes / f"disk{number}")
        for number, (_, disk) in enumerate(crashes(lying, MOST))
    )
    print(f"no syncs: {found.total()} disks: {dict(found)}")
    assert found["damaged"] > 20


async def test_a_run_becomes_one_version_from_any_disk(
    site: Site, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole update, on a real Redis, with a disk that syncs or does not."""
    outcomes: Counter[str] = Counter()
    raw_redis = site.redis.client()
    for seed in range(12):
        raw_redis.flushall()
        top = tmp_path / f"data{seed}"
        top.mkdir()
        electorate = Electorate(store)
        await electorate.vote("udu")
        place, _ = make_place(store, top)
        with monkeypatch.context() as patch:
            recorder = Recorder(top)
            recorder.watch(patch)
            patch.setattr(store.runs, "commit", cut_off)
            patch.setattr(store.runs, "fail", cut_off)
            with pytest.raises(CutOffError):
                await run_update(place)
            recorder.stop()
        steps = [s for s in recorder.steps if seed % 2 or not isinstance(s, Sync)]
        *_, (_, disk) = crashes(steps, 1, seed=seed)
        lay_out(disk, tmp_path / f"disk{seed}")
        raw_redis.delete(keys.LEASE)
        place, again = make_place(store, tmp_path / f"disk{seed}")
        await run_update(place)
        for aside in place.settings.adapters_dir.glob("damaged-*"):
            outcomes["set aside"] += 1
            shutil.rmtree(aside)
        outcomes["learned again" if again.learned else "found whole"] += 1
        books = await balance(store, electorate, place.settings.adapters_dir)
        assert (books.runs, books.found) == (1, 3)
    raw_redis.close()
    print(f"12 power cuts before the commit: {dict(outcomes)}; each time {books}")
    assert outcomes["found whole"] >= 6
    assert outcomes["learned again"] > 0


async def cut_off(*_args: object, **_options: object) -> None:
    raise CutOffError
