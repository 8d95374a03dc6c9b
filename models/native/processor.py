"""Detects which number formats this machine's processor multiplies fast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

_INFO = Path("/proc/cpuinfo")
_NAMES = ("model name", "flags", "Features")
_INTEL = "GenuineIntel"


@dataclass(frozen=True, slots=True)
class Processor:
    """The first processor in ``/proc/cpuinfo``; empty on systems without that file.

    Attributes:
        vendor: The vendor id.
        flags: The x86 instruction sets, as Linux names them.
        lines: The lines that identify a processor, for the cache of compiled libraries.
    """

    vendor: str = ""
    flags: frozenset[str] = frozenset()
    lines: tuple[str, ...] = ()

    @property
    def multiplies_pairs(self) -> bool:
        """Whether the dot product of bfloat16 pairs is faster than fp32 multiplication.

        On Intel Xeon processors it is slower: it does half as many products a second as fp32.
        """
        return "avx512_bf16" in self.flags and self.vendor != _INTEL

    @property
    def multiplies_float16(self) -> bool:
        """Whether fp16 has twice the throughput of fp32 (AVX512-FP16)."""
        return "avx512_fp16" in self.flags

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether large bfloat16 matrix products are faster than fp32 ones.

        They are with AMX or with fast bfloat16 dot products. Other processors than x86 list no
        flags, and are assumed to be fast.
        """
        return not self.flags or "amx_bf16" in self.flags or self.multiplies_pairs


def parse(info: str) -> Processor:
    """Return the first processor in the text of ``/proc/cpuinfo``."""
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
