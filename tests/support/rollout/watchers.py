"""A replica's watcher for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from feedback.store import Store
    from service.following.watcher import RolloutWatcher


class MakeWatcher(Protocol):
    """The fixture ``make_watcher``: a watcher on the test's store, or on another."""

    def __call__(self, used_store: Store = ...) -> RolloutWatcher: ...
