"""The compiled kernels of the learner, called through ctypes (``kernels.cpp``)."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from models.errors import LearningError
from models.native.build import Program, library
from models.native.processor import processor
from models.policy.products import multiply

if TYPE_CHECKING:
    from models.policy.attention import Heads
    from models.policy.packing import Packed

PROGRAM = Program(
    "kernels",
    Path(__file__).parent / "kernels.cpp",
    (
        "attention.h",
        "elementwise.h",
        "head.h",
        "multiply.h",
        "numbers.h",
        "operands.h",
        "transpose.h",
    ),
    ("products.h", "vectors.h"),
)

_P, _I, _L, _F = c_void_p, c_int32, c_int64, c_float


class _Attention(Structure):
    """``Attention`` of ``attention.h``."""

    _fields_ = [
        ("tokens", _P),
        ("lengths", _P),
        ("own_start", _P),
        ("rows", _I),
        ("width", _I),
        ("kv_heads", _I),
        ("group", _I),
        ("size", _I),
        ("scale", _F),
        ("count", _L),
    ]


_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "rms_norm": (_P, _P, _P, _L, _L, _I, _F, _I),
    "rms_norm_backward": (_P, _P, _P, _L, _P, _P, _L, _I, _F, _I),
    "rotate": (_P, _L, _P, _P, _L, _I, _I, _F, _I),
    "swiglu": (_P, _P, _L, _L, _I, _I),
    "swiglu_backward": (_P, _P, _L, _P, _P, _L, _L, _I, _I),
    "attend": (POINTER(_Attention), _P, _L, _P, _L, _I),
    "attend_backward": (POINTER(_Attention), _P, _L, _P, _L, _P, _I),
    "logprobs_and_kl": (_P, _P, _L, _I, _P, _P, _P, _P, _P, _I),
    "logprobs_and_kl_backward": (_P, _P, _L, _I, _P, _P, _P, _P, _P, _I),
    "multiply": (_P, _L, _L, _L, _P, _L, _I, _L, _P, _L, _I, _I, _P),
}
_BLOCK, _PANEL, _STRIDE = 1024, 1024 * 32, 1024 + 16
"""The constants of ``numbers.h`` and ``multiply.h``, for the size of scratch memory."""


class NativeKernels:
    """The compiled kernels; see ``models.policy.kernels.Kernels``.

    All tensors are on the CPU, with contiguous rows.

    Args:
        folder: The folder of compiled libraries.

    Raises:
        EngineError: The library cannot be compiled here.
    """

    def __init__(self, folder: Path) -> None:
        self._converts = not processor().multiplies_bfloat16
        self._float16 = processor().multiplies_float16
        self.padded = not self._converts
        self._library = ctypes.CDLL(str(library(folder, PROGRAM)))
        for name, arguments in _ARGUMENTS.items():
            function = getattr(self._library, f"thumbloop_{name}")
            function.argtypes = arguments
            function.restype = c_int32 if name.startswith("attend") else None

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, epsilon: float, out: torch.Tensor
    ) -> None:
        """See ``Kernels``."""
        rows, width = x.shape
        self._library.thumbloop_rms_norm(
            _ptr(x), _ptr(weight), _ptr(out), out.stride(0), rows, width, epsilon, _bf16(x)
        )

    def rms_norm_backward(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        dy: torch.Tensor,
        epsilon: float,
        dresidual: torch.Tensor | None,
    ) -> torch.Tensor:
        """See ``Kernels``."""
        out, (rows, width) = torch.empty_like(x), x.shape
        self._library.thumbloop_rms_norm_backward(
            _ptr(x), _ptr(weight), _ptr(dy), dy.stride(0), _ptr(dresidual), _ptr(out), rows, width,
            epsilon, _bf16(x),
        )  # fmt: skip
        return out

    def rotate(
        self,
        columns: torch.Tensor,
        cosines: torch.Tensor,
        sines: torch.Tensor,
        heads: int,
        *,
        inverse: bool,
    ) -> None:
        """See ``Kernels``."""
        half = cosines.shape[-1]
        self._library.thumbloop_rotate(
            _ptr(columns), columns.stride(0), _ptr(cosines), _ptr(sines), len(columns), heads, half,
            -1.0 if inverse else 1.0, _bf16(columns),
        )  # fmt: skip

    def swiglu(self, gates: torch.Tensor, out: torch.Tensor) -> None:
        """See ``Kernels``."""
        rows, width = gates.shape
        self._library.thumbloop_swiglu(
            _ptr(gates), _ptr(out), out.stride(0), rows, width // 2, _bf16(gates)
        )

    def swiglu_backward(
        self, gates: torch.Tensor, dactivated: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """See ``Kernels``."""
        dgates, (rows, width) = torch.empty_like(gates), gates.shape
        self._library.thumbloop_swiglu_backward(
            _ptr(gates), _ptr(dactivated), dactivated.stride(0), _ptr(dgates), _ptr(out),
            out.stride(0), rows, width // 2, _bf16(gates),
        )  # fmt: skip
        return dgates

    def attend(self, qkv: torch.Tensor, packed: Packed, heads: Heads, out: torch.Tensor) -> None:
        """See ``Kernels``."""
        over = _attention(packed, heads)
        self._check_memory(
            self._library.thumbloop_attend(
                over, _ptr(qkv), qkv.stride(0), _ptr(out), out.stride(0), _bf16(qkv)
            )
        )

    def attend_backward(
        self, qkv: torch.Tensor, dout: torch.Tensor, packed: Packed, heads: Heads
    ) -> torch.Tensor:
        """See ``Kernels``."""
        dqkv, over = torch.empty_like(qkv), _attention(packed, heads)
        self._check_memory(
            self._library.thumbloop_attend_backward(
                over, _ptr(qkv), qkv.stride(0), _ptr(dout), dout.stride(0), _ptr(dqkv), _bf16(qkv)
            )
        )
        return dqkv

    def logprobs_and_kl(
        self,
        logits: torch.Tensor,
        delta: torch.Tensor | None,
        temperature: torch.Tensor,
        chosen: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See ``Kernels``."""
        rows, tokens = logits.shape
        logprobs, kl, saved = torch.empty(rows), torch.zeros(rows), torch.empty(rows, 2)
        factors = temperature.reciprocal()
        self._library.thumbloop_logprobs_and_kl(
            _ptr(logits), _ptr(delta), rows, tokens, _ptr(factors), _ptr(chosen), _ptr(logprobs),
            _ptr(kl), _ptr(saved), _bf16(logits),
        )  # fmt: skip
        return logprobs, kl, saved

    def logprobs_and_kl_backward(
        self,
        logits: torch.Tensor,
        delta: torch.Tensor | None,
        temperature: torch.Tensor,
        chosen: torch.Tensor,
        gradients: tuple[torch.Tensor, torch.Tensor],
        saved: torch.Tensor,
    ) -> torch.Tensor:
        """See ``Kernels``."""
        (dlogprobs, dkl), (rows, tokens) = gradients, logits.shape
        factors = temperature.reciprocal()
        self._library.thumbloop_logprobs_and_kl_backward(
            _ptr(logits), _ptr(delta), rows, tokens, _ptr(factors), _ptr(chosen), _ptr(dlogprobs),
            _ptr(dkl), _ptr(saved), _bf16(logits),
        )  # fmt: skip
        return logits

    def multiply(
        self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See ``Kernels``; torch's where that is faster."""
        if not self._multiplies(a):
            return multiply(a, b, out)
        out = a.new_empty(len(a), b.shape[1]) if out is None else out
        self._product(a, b, out, add=False)
        return out

    def add_product(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
        """See ``Kernels``; torch's where that is faster."""
        if self._multiplies(a):
            self._product(a, b, out, add=True)
        else:
            out.addmm_(a, b)

    def _multiplies(self, a: torch.Tensor) -> bool:
        return self._converts and a.dtype == torch.bfloat16 and torch.get_num_threads() == 1

    def _product(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, *, add: bool) -> None:
        (rows, inputs), columns = a.shape, b.shape[1]
        room = _PANEL + rows * (_STRIDE + 1)
        scratch = torch.empty(room + (rows * columns if inputs > _BLOCK else 0))
        transposed = b.stride(1) != 1
        self._library.thumbloop_multiply(
            _ptr(a), a.stride(0), rows, inputs, _ptr(b), b.stride(int(transposed)), transposed,
            columns, _ptr(out), out.stride(0), add, self._float16, _ptr(scratch),
        )  # fmt: skip

    @staticmethod
    def _check_memory(failed: int) -> None:
        if failed:
            raise LearningError(
                "There is no memory for the attention of this update: lower "
                "THUMBLOOP_MICRO_BATCH_TOKENS, or give the learner more."
            )


def _attention(packed: Packed, heads: Heads) -> Any:
    rows, width = packed.shape
    return ctypes.byref(
        _Attention(
            tokens=_ptr(packed.tokens),
            lengths=_ptr(packed.lengths),
            own_start=_ptr(packed.own_start),
            rows=rows,
            width=width,
            kv_heads=heads.kv,
            group=heads.group,
            size=heads.size,
            scale=heads.scale,
            count=len(packed.ids),
        )
    )


def _ptr(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _bf16(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.bfloat16
