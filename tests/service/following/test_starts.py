"""What a replica serves from its start on, with or without Redis and its memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from feedback.types import Audit
from models.versions import Activate
from service.following.last_known import LastKnown
from tests.support.rollout.versions import V1, V2, V9, activate

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.rollout.watchers import MakeWatcher

pytestmark = pytest.mark.anyio


async def test_a_start_with_a_broken_live_version_serves_the_last_good_one(
    make_watcher: MakeWatcher, store: Store, versions: None, service_settings: ServiceSettings
) -> None:
    LastKnown(service_settings.data_dir).remember(live=V2)
    await activate(store, V9)
    watcher = make_watcher()
    await watcher.look()
    assert watcher.serving == V2
    assert V9 in watcher.problem


@pytest.mark.parametrize(("remembered", "served"), [(V2, V2), (V9, "base"), (None, "base")])
async def test_a_start_without_redis_serves_what_was_live(
    make_watcher: MakeWatcher,
    away: Store,
    service_settings: ServiceSettings,
    remembered: Any,
    served: str,
) -> None:
    if remembered:
        LastKnown(service_settings.data_dir).remember(live=remembered)
    watcher = make_watcher(away)
    await watcher.look()
    assert watcher.serving == served
    assert watcher.store_away
    assert (watcher.problem is not None) == (remembered == V9)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"live": 5}', '{"live": "../../x"}'])
async def test_a_broken_memory_is_no_memory(tmp_path: Path, content: Any) -> None:
    (tmp_path / "live.json").write_text(content)
    assert LastKnown(tmp_path).live is None
    assert LastKnown(tmp_path).keyed is None


async def test_the_memory_is_replaced_whole(tmp_path: Path) -> None:
    known = LastKnown(tmp_path / "new")
    known.remember(live=V1)
    known.remember(keyed=True)
    assert json.loads((tmp_path / "new" / "live.json").read_text()) == {"live": V1, "keyed": True}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["live.json"]


@pytest.mark.parametrize(("remembered", "served"), [(V2, V2), (V9, V1), (None, V1)])
async def test_a_start_with_a_broken_live_version_and_memory_serves_the_confirmed_one(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    service_settings: ServiceSettings,
    remembered: str | None,
    served: str,
) -> None:
    broken = "v000008-000000000008"
    await store.versions.add(broken, parent=V1, manifest={}, state="approved", now=1.0)
    await activate(store, V1)
    await store.rollout.do(Activate(broken), Audit("learner", "test", 2.0))
    if remembered:
        LastKnown(service_settings.data_dir).remember(live=remembered)
    watcher = make_watcher()
    await watcher.look()
    assert watcher.serving == served
    assert broken in watcher.problem
    assert served in watcher.problem


async def test_a_data_folder_that_cannot_be_written_keeps_nobody_from_following(
    make_watcher: MakeWatcher, store: Store, versions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.following.last_known.write_atomically", full)
    watcher = make_watcher()
    await activate(store, V1)
    await watcher.look()
    assert (watcher.serving, watcher.problem) == (V1, None)
