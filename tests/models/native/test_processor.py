from __future__ import annotations

import pytest

from models.native.processor import Processor, parse

INFO = """processor\t: 0
vendor_id\t: {vendor}
model name\t: One
flags\t\t: fpu avx512f {flags}

processor\t: 1
vendor_id\t: Other
model name\t: Two
"""


def test_the_first_processor_is_read() -> None:
    found = parse(INFO.format(vendor="AuthenticAMD", flags="avx512_bf16"))
    assert found.vendor == "AuthenticAMD"
    assert found.flags == {"fpu", "avx512f", "avx512_bf16"}
    assert not found.multiplies_float16
    assert found.lines == ("model name: One", "flags: fpu avx512f avx512_bf16")


@pytest.mark.parametrize(
    ("vendor", "flags", "pairs", "matrices"),
    [
        ("AuthenticAMD", "avx512_bf16", True, True),
        ("AuthenticAMD", "", False, False),
        ("GenuineIntel", "avx512_bf16", False, False),
        ("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", False, True),
        ("GenuineIntel", "", False, False),
    ],
)
def test_what_multiplies_bfloat16_fast(
    vendor: str, flags: str, pairs: bool, matrices: bool
) -> None:
    found = parse(INFO.format(vendor=vendor, flags=flags))
    assert (found.multiplies_pairs, found.multiplies_bfloat16) == (pairs, matrices)


def test_what_multiplies_float16() -> None:
    found = parse(INFO.format(vendor="GenuineIntel", flags="avx512_bf16 avx512_fp16"))
    assert found.multiplies_float16


def test_processors_that_do_not_say_are_believed() -> None:
    arm = parse("processor\t: 0\nFeatures\t: fp asimd bf16\nCPU implementer\t: 0x41\n")
    assert arm == Processor(lines=("Features: fp asimd bf16",))
    for unknown in (arm, Processor()):
        assert unknown.multiplies_bfloat16
        assert not unknown.multiplies_pairs
