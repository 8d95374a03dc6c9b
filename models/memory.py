"""Limits the memory that a learner's process keeps (no torch)."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

SHAPES = 32
"""The distinct shapes of matrix products in one pass, each of which needs a kernel."""
_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""The cache sizes of torch and of oneDNN, in kernels; each is 1,024 by default."""
_M_ARENA_MAX = -8
"""The option of mallopt for the most arenas (glibc's malloc.h)."""


def keep_few_kernels(passes: int) -> None:
    """Limit the caches of CPU kernels to what ``passes`` parallel passes need.

    oneDNN compiles a kernel for each shape of a bf16 product, and torch keeps it: 0.6 MiB with the
    default base. Replies have hundreds of lengths, each with shapes of its own. Without a limit, an
    update grows by hundreds of MiB that it never uses again.

    A limit in the environment stays as it is. A process reads the limits at its first product, so
    later calls have no effect.
    """
    for name in _CACHES:
        os.environ.setdefault(name, str(SHAPES * passes))


def share_one_heap() -> None:
    """Let all threads that start later allocate from one heap (glibc only).

    By default glibc gives each thread an arena of its own, and a block that one thread freed serves
    no other thread. An update then peaks at 1,480 to 1,530 MiB; with one heap it peaks at 1,360.
    An update's blocks are large and few, so the lock of the heap costs about 2 % of its time.
    """
    set_option = _of_c_library("mallopt")
    if set_option is not None:
        set_option(_M_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Return freed memory to the system (glibc only).

    The C library keeps freed blocks of a few MiB, such as layers' weights, and tensors of another
    size cannot reuse them. After the default base's weights are restacked, that is 200 MiB.
    """
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _of_c_library(name: str) -> Any:
    """Return a function of glibc; None where the C library lacks it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
