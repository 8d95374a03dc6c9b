"""The only place that speaks Redis: every record, through one pool of connections."""

from feedback.store.embedded import EmbeddedRedis, embedded_url
from feedback.store.opening import open_store
from feedback.store.store import Store

__all__ = ["EmbeddedRedis", "Store", "embedded_url", "open_store"]
