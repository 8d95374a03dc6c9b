"""Measures what spinning OpenMP threads cost when chat and the learner share the cores.

Runs a decode-sized bf16 product in one process, then in two at once, with OpenMP's threads
spinning and sleeping while they wait; prints products a second for each process.

    python -m bench.contention
"""

from __future__ import annotations

import os
import subprocess
import sys

PRODUCTS = """
import sys, time, torch
x = torch.randn(16, 576, dtype=torch.bfloat16)
up, down = (torch.randn(n, m, dtype=torch.bfloat16) for n, m in ((1536, 576), (576, 1536)))
count, begin = 0, time.perf_counter()
while time.perf_counter() - begin < 5:
    torch.nn.functional.linear(torch.nn.functional.linear(x, up), down)
    count += 1
print(count / 5)
"""


def products_per_second(policy: str, processes: int) -> list[float]:
    """Run the loop in ``processes`` processes at once; return each one's rate."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PRODUCTS],
            env={**os.environ, "OMP_WAIT_POLICY": policy},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    return [float(process.communicate()[0]) for process in running]


def main() -> None:
    """Print a row for each policy and number of processes."""
    for processes in (1, 2):
        for policy in ("ACTIVE", "PASSIVE"):
            rates = ", ".join(f"{rate:.0f}" for rate in products_per_second(policy, processes))
            print(f"{processes} process(es), {policy}: {rates} products/s each")


if __name__ == "__main__":
    main()
