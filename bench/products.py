"""Times the learner's products and torch's, a thread for each core, and says how exact they are.

The shapes are those of a core's share of a minibatch with the default base: forward, where weights
are turned, and backward. Each layer has weights of its own, so that they come from memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from bench.support.machine import describe, write_results
from models.native.processor import processor
from models.policy import products
from models.policy.native import bindings

if TYPE_CHECKING:
    from collections.abc import Callable

    Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SHAPES = {
    "queries, keys, values": (448, 576, 960, 30),
    "gates": (448, 576, 3072, 30),
    "down": (448, 1536, 576, 30),
    "head": (192, 576, 49152, 1),
}
"""Rows, inputs, outputs, and how many matrices of weights there are."""
ERROR = (448, 1536, 576)


def arms(folder: Path) -> dict[str, tuple[Multiply, torch.dtype, str]]:
    """Return what multiplies: the function, the numbers' format, and torch's way of fp32 products.

    Ours by fp32 is what it is without AVX512-FP16. Where bf16 is fast, ours are torch's.
    """
    ours = bindings.NativeKernels(folder)
    less = replace(processor(), flags=processor().flags - {"avx512_fp16"})
    with patch.object(bindings, "processor", lambda: less):
        by_fp32 = bindings.NativeKernels(folder)
    return {
        "ours": (ours.multiply, torch.bfloat16, "highest"),
        "ours, by fp32": (by_fp32.multiply, torch.bfloat16, "highest"),
        "torch, widened where bf16 is slow": (products.multiply, torch.bfloat16, "highest"),
        "torch, bf16": (torch.mm, torch.bfloat16, "highest"),
        "torch, fp32 by MKL": (torch.mm, torch.float32, "highest"),
        "torch, fp32 by oneDNN": (torch.mm, torch.float32, "medium"),
    }


def speed(multiply: Multiply, dtype: torch.dtype, shape: tuple[int, int, int, int]) -> float:
    """Return GFLOP/s of the calling thread, forward and backward through all weights."""
    rows, inputs, outputs, count = shape
    weights = torch.randn(count, outputs, inputs).to(dtype)
    x, dy = torch.randn(rows, inputs).to(dtype), torch.randn(rows, outputs).to(dtype)
    multiply(x, weights[0].T)
    multiply(dy, weights[0])
    start = time.perf_counter()
    for weight in weights:
        multiply(x, weight.T)
        multiply(dy, weight)
    return 4e-9 * rows * inputs * outputs * count / (time.perf_counter() - start)


def error(multiply: Multiply, dtype: torch.dtype) -> float:
    """Return how far a product of bf16 numbers is off, relative to the exact one's size."""
    rows, inputs, outputs = ERROR
    a, b = torch.randn(rows, inputs).bfloat16(), torch.randn(inputs, outputs).bfloat16()
    exact = a.double() @ b.double()
    return ((multiply(a.to(dtype), b.to(dtype)).double() - exact).norm() / exact.norm()).item()


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.manual_seed(0)
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="thumbloop-products-") as folder,
        ThreadPoolExecutor(
            options.threads, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool,
    ):
        made = arms(Path(folder))
        for shape_name, shape in SHAPES.items():
            best = dict.fromkeys(made, 0.0)
            for _ in range(options.repeats):
                for name, (multiply, dtype, precision) in made.items():
                    torch.set_float32_matmul_precision(precision)
                    runs = [
                        pool.submit(speed, multiply, dtype, shape) for _ in range(options.threads)
                    ]
                    best[name] = max(best[name], min(run.result() for run in runs))
            figures[shape_name] = {name: round(found) for name, found in best.items()}
            print(f"{shape_name:<22} {figures[shape_name]}", flush=True)
        errors = {}
        for name, (multiply, dtype, precision) in made.items():
            torch.set_float32_matmul_precision(precision)
            errors[name] = float(f"{pool.submit(error, multiply, dtype).result():.2e}")
    about = {"machine": describe(), "options": vars(options)}
    write_results("products", {**about, "gflops_a_core": figures, "relative_error": errors})
    return 0


if __name__ == "__main__":
    sys.exit(main())
