from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

import pytest

from models.memory import give_back_freed_memory

BLOCK, COUNT = 2**16, 512


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep no store")
def test_what_is_freed_between_blocks_in_use_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    blocks = [ctypes.c_void_p(libc.malloc(BLOCK)) for _ in range(COUNT)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    for block in blocks[:-1]:
        libc.free(block)
    held = _resident_bytes()
    give_back_freed_memory()
    given_back = held - _resident_bytes()
    libc.free(blocks[-1])
    assert given_back > BLOCK * COUNT / 2


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
