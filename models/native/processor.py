"""What this machine's processor multiplies fast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

_INFO = Path("/proc/cpuinfo")
_NAMES = ("model name", "flags", "Features")
_INTEL = "GenuineIntel"


@dataclass(frozen=True, slots=True)
class Processor:
    """The first processor of Linux's list; empty where there is none.

    Attributes:
        vendor: As the processor names its maker.
        flags: What x86 processors can do, as Linux names it.
        lines: What tells processors apart for whom programs are compiled.
    """

    vendor: str = ""
    flags: frozenset[str] = frozenset()
    lines: tuple[str, ...] = ()

    @property
    def multiplies_pairs(self) -> bool:
        """Whether a dot product of bfloat16 pairs is faster than fp32 products one by one.

        On an Intel Xeon it has half of the products a second that fp32 has ("One update"
        in bench/RESULTS.md); two cores of an AMD EPYC had 468 GFLOP/s by it ("Single steps").
        """
        return "avx512_bf16" in self.flags and self.vendor != _INTEL

    @property
    def multiplies_float16(self) -> bool:
        """Whether it computes with 32 fp16 numbers in the time of sixteen fp32 ones."""
        return "avx512_fp16" in self.flags

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether large products of bfloat16 matrices are faster than of fp32 ones.

        That is with tiles (AMX) or fast dot products. Of processors other than x86 we know
        nothing, and believe what they say they are.
        """
        return not self.flags or "amx_bf16" in self.flags or self.multiplies_pairs


def parse(info: str) -> Processor:
    """Read the first processor out of the text of ``/proc/cpuinfo``."""
    rows = [line.partition(":") for line in info.partition("\n\n")[0].splitlines()]
    found = {name.strip(): value.strip() for name, _, value in rows}
    return Processor(
        vendor=found.get("vendor_id", ""),
        flags=frozenset(found.get("flags", "").split()),
        lines=tuple(f"{name}: {found[name]}" for name in _NAMES if name in found),
    )


@cache
def processor() -> Processor:
    """Return this machine's processor."""
    return parse(_INFO.read_text()) if _INFO.is_file() else Processor()
