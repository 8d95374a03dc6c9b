from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from models.memory import SHAPES, give_back_freed_memory, keep_few_kernels
from models.native.processor import processor

BLOCK, COUNT = 2**16, 512
CACHES = ["LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
PRODUCTS = """
import resource, torch
from models.memory import keep_few_kernels
torch.set_num_threads(1)
keep_few_kernels(2)
weight, inputs = (torch.zeros(rows, 576, dtype=torch.bfloat16) for rows in (1536, 600))
inputs @ weight.T
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for rows in range(2, 600):
    inputs[:rows] @ weight.T
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
HEAPS = """
import ctypes, sys, threading
from models.memory import share_one_heap
share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def use():
    libc.malloc(1000)
    together.wait()
together = threading.Barrier(3)
threads = [threading.Thread(target=use) for _ in range(2)]
for thread in threads:
    thread.start()
together.wait()
stream = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


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


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are in other units elsewhere")
@pytest.mark.skipif(
    bool(processor().flags) and "avx512bw" not in processor().flags,
    reason="no kernels are compiled for bf16 products without AVX-512",
)
def test_products_of_hundreds_of_shapes_leave_no_more_than_a_few_kernels() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in CACHES}
    grown = subprocess.run(
        [sys.executable, "-c", PRODUCTS], env=environment, capture_output=True, check=True
    )
    assert float(grown.stdout) < 128  # MiB; 360 where all of them are kept


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have one heap")
def test_threads_share_one_heap() -> None:
    told = subprocess.run([sys.executable, "-c", HEAPS], capture_output=True, check=True, text=True)
    assert told.stdout.count("<heap ") == 1


def test_bounds_that_the_environment_has_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded, unbounded = CACHES
    monkeypatch.setenv(bounded, "7")
    monkeypatch.setenv(unbounded, "")  # so that it is taken away again
    monkeypatch.delenv(unbounded)
    keep_few_kernels(3)
    assert [os.environ[name] for name in CACHES] == ["7", str(3 * SHAPES)]


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
