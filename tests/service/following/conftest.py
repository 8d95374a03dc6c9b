"""A watcher beside a fake generator, and versions in the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.following.last_known import LastKnown
from service.following.watcher import RolloutWatcher
from service.metrics.metrics import Metrics

if TYPE_CHECKING:
    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.rollout.watchers import MakeWatcher


from tests.support.rollout.versions import V1, V2, V3, V9


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make_watcher(
    generator: FakeGenerator, store: Store, service_settings: ServiceSettings, metrics: Metrics
) -> MakeWatcher:
    def make(used_store: Store = store) -> RolloutWatcher:
        last_known = LastKnown(service_settings.data_dir)
        return RolloutWatcher(generator, used_store, service_settings, last_known, metrics)

    return make


@pytest.fixture
async def versions(store: Store) -> None:
    for version in (V1, V2, V3, V9):
        await store.versions.add(version, parent="base", manifest={}, state="approved", now=1.0)
