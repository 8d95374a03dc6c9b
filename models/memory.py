"""Gives freed memory back to the system (no torch)."""

from __future__ import annotations

import ctypes
import sys


def give_back_freed_memory() -> None:
    """Return what is freed but still held to the system, where the C library can (glibc).

    Blocks of a few MiB, as layers' weights are, are freed into the C library's own store, which
    tensors of another size then do not fit into: 200 MiB of it after the default base's weights
    have been arranged for learning.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
