"""Keeps a process's memory to what it needs (no torch)."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

SHAPES = 32
"""Products of one pass whose shapes differ, and with them the kernels that it asks for."""
_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""torch's cache of products, and that of oneDNN under it; 1,024 each where nothing is said."""
_M_ARENA_MAX = -8
"""glibc's number for the most heaps (malloc.h)."""


def keep_few_kernels(passes: int) -> None:
    """Bound what is kept of products on CPUs to what such passes side by side ask for.

    For each shape of a bf16 product oneDNN compiles a kernel and torch keeps it, 0.6 MiB for each
    of the default base's. Replies have hundreds of lengths, and each brings shapes of its own: an
    update would grow by hundreds of MiB that it does not use again. Bounds that the environment
    has already are left alone; a process's first product reads them, so later calls change nothing.
    """
    for name in _CACHES:
        os.environ.setdefault(name, str(SHAPES * passes))


def share_one_heap() -> None:
    """Let threads that are yet to start take memory from one heap, where the C library can (glibc).

    It gives each thread a heap of its own, and what one has freed fits nothing that another asks
    for: the peak of an update is 1,480 to 1,530 MiB, where one heap keeps to 1,360. The blocks of
    an update are large and few, so that threads wait for each other in some 2 % of it.
    """
    set_option = _of_c_library("mallopt")
    if set_option is not None:
        set_option(_M_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Return what is freed but still held to the system, where the C library can (glibc).

    Blocks of a few MiB, as layers' weights are, are freed into the C library's own store, which
    tensors of another size then do not fit into: 200 MiB of it after the default base's weights
    have been arranged for learning.
    """
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _of_c_library(name: str) -> Any:
    """Return one of glibc's functions; None elsewhere (musl has neither)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
