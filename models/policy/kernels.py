"""The functions that passes are made of, compiled or by torch operations, and their gradients."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.functional import rms_norm, silu

from models.errors import EngineError
from models.native.llama import LANES, unsupported
from models.policy.attention import Heads, attend, attend_backward
from models.policy.native.bindings import NativeKernels
from models.policy.products import multiply

if TYPE_CHECKING:
    from pathlib import Path

    from models.policy.packing import Packed

_log = logging.getLogger(__name__)


class Kernels(Protocol):
    """Functions of ``N`` tokens and their gradients; sums are fp32 for every number format.

    Attributes:
        padded: Whether products are fastest with rows of a multiple of 32 numbers.
    """

    padded: bool

    def multiply(
        self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return ``a @ b`` in the operands' number format.

        Args:
            a: ``[n, k]``, rows contiguous.
            b: ``[k, m]``, rows contiguous, or the transposed view of such a matrix (``W.T``).
            out: The result's memory, ``[n, m]``, rows contiguous; allocated if None.
        """
        ...

    def add_product(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
        """Add ``a @ b`` to ``out``; see ``multiply``."""
        ...

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, epsilon: float, out: torch.Tensor
    ) -> None:
        """Write the RMS norm (arXiv 1910.07467) of ``x`` to ``out``, both ``[N, H]``."""
        ...

    def rms_norm_backward(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        dy: torch.Tensor,
        epsilon: float,
        dresidual: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the gradient of the norm's input, ``[N, H]``, plus ``dresidual`` if given."""
        ...

    def rotate(
        self,
        columns: torch.Tensor,
        cosines: torch.Tensor,
        sines: torch.Tensor,
        heads: int,
        *,
        inverse: bool,
    ) -> None:
        """Apply rotary embedding (arXiv 2104.09864) to the first heads of ``columns``, in place.

        Args:
            columns: ``[N, columns]``.
            cosines: Of the tokens' positions, ``[N, size / 2]`` fp32.
            sines: Likewise.
            heads: The number of heads to rotate.
            inverse: Whether to rotate by the negative angles, which is the gradient.
        """
        ...

    def swiglu(self, gates: torch.Tensor, out: torch.Tensor) -> None:
        """Write silu(first half) · second half of ``gates`` to ``out`` (arXiv 2002.05202)."""
        ...

    def swiglu_backward(
        self, gates: torch.Tensor, dactivated: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient of ``gates``; write the output of ``swiglu`` to ``out`` again."""
        ...

    def attend(self, qkv: torch.Tensor, packed: Packed, heads: Heads, out: torch.Tensor) -> None:
        """Write the causal attention of each token to ``out``, ``[N, query columns]``.

        Args:
            qkv: The queries, keys and values after rotary embedding, ``[N, columns]``.
            packed: The rows of the tokens.
            heads: The heads in the columns.
            out: The result's memory.
        """
        ...

    def attend_backward(
        self, qkv: torch.Tensor, dout: torch.Tensor, packed: Packed, heads: Heads
    ) -> torch.Tensor:
        """Return the gradient of ``qkv``, given the gradient ``dout`` of ``attend``'s output."""
        ...

    def logprobs_and_kl(
        self,
        logits: torch.Tensor,
        delta: torch.Tensor | None,
        temperature: torch.Tensor,
        chosen: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log π(chosen), KL(π ‖ base) and values saved for the gradient, all fp32.

        Args:
            logits: The logits before the division by the temperature, ``[n, V]``.
            delta: The logits minus the base's, ``[n, V]``. Computed as a difference of states, it
                keeps small differences in any number format. If None, KL is 0.
            temperature: ``[n]``.
            chosen: The token ids, ``[n]``.

        Returns:
            log π(chosen) ``[n]``, KL ``[n]``, and ``[n, 2]``: log Σ exp, and Σ p · delta (with a
            ``delta`` only).
        """
        ...

    def logprobs_and_kl_backward(
        self,
        logits: torch.Tensor,
        delta: torch.Tensor | None,
        temperature: torch.Tensor,
        chosen: torch.Tensor,
        gradients: tuple[torch.Tensor, torch.Tensor],
        saved: torch.Tensor,
    ) -> torch.Tensor:
        """Return the gradient of the logits, ``[n, V]``, which may reuse their memory.

        With p = π(v) and d = delta(v): ∂ log π(c) / ∂ z_v = [v = c] - p, and
        ∂ KL / ∂ z_v = p (d - Σ p d).

        Args:
            logits: As for ``logprobs_and_kl``.
            delta: Likewise.
            temperature: Likewise.
            chosen: Likewise.
            gradients: The gradients of log π(chosen) and of KL, ``[n]`` each.
            saved: The third result of ``logprobs_and_kl``.
        """
        ...


def make_kernels(model: Any, folder: Path | None) -> Kernels:
    """Return the fastest kernels for a Llama-like model.

    Args:
        model: A transformers model for which ``llama.unsupported_reason`` returns None.
        folder: The folder of compiled libraries; None compiles none.
    """
    unsupported_sizes = model.config.intermediate_size % LANES or unsupported(model) is not None
    if folder is None or unsupported_sizes:
        return TorchKernels()
    try:
        return NativeKernels(folder)
    except EngineError as error:
        _log.warning("Learning without compiled kernels, which is slower. %s", error)
        return TorchKernels()


class TorchKernels:
    """The kernels by torch operations; see ``Kernels``."""

    padded = True

    def multiply(
        self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See ``Kernels``."""
        return multiply(a, b, out)

    def add_product(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
        """See ``Kernels``."""
        out.addmm_(a, b)

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, epsilon: float, out: torch.Tensor
    ) -> None:
        """See ``Kernels``."""
        out.copy_(rms_norm(x, weight.shape, weight, epsilon))

    def rms_norm_backward(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        dy: torch.Tensor,
        epsilon: float,
        dresidual: torch.Tensor | None,
    ) -> torch.Tensor:
        """See ``Kernels``: with r = (mean x² + ε)^-½, dx = r (w dy) - x r³ mean(x w dy)."""
        x_32, scaled = x.float(), dy * weight.float()
        r = x_32.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        common = torch.linalg.vecdot(x_32, scaled)[:, None].mul_(r**3 / x.shape[1])
        found = scaled.mul_(r).sub_(x_32.mul_(common)).to(x.dtype)
        return found if dresidual is None else found.add_(dresidual)

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
        cosines, sines = cosines[:, None], sines[:, None] * (-1 if inverse else 1)
        parted = columns[:, : heads * 2 * half].view(len(columns), heads, 2, half)
        first, second = parted[:, :, 0], parted[:, :, 1]
        transposed = first * cosines - second * sines
        parted[:, :, 1] = second * cosines + first * sines
        parted[:, :, 0] = transposed

    def swiglu(self, gates: torch.Tensor, out: torch.Tensor) -> None:
        """See ``Kernels``."""
        first, second = gates.chunk(2, dim=1)
        torch.mul(silu(first), second, out=out)

    def swiglu_backward(
        self, gates: torch.Tensor, dactivated: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """See ``Kernels``."""
        first, second = gates.chunk(2, dim=1)
        dgates, opened = torch.empty_like(gates), silu(first)
        dfirst, dsecond = dgates.chunk(2, dim=1)
        torch.mul(opened, second, out=out)
        torch.mul(dactivated, opened, out=dsecond)
        torch.ops.aten.silu_backward.grad_input(dactivated * second, first, grad_input=dfirst)
        return dgates

    def attend(self, qkv: torch.Tensor, packed: Packed, heads: Heads, out: torch.Tensor) -> None:
        """See ``Kernels``."""
        out.copy_(packed.gather(attend(packed.spread(qkv), packed.shape, heads)))

    def attend_backward(
        self, qkv: torch.Tensor, dout: torch.Tensor, packed: Packed, heads: Heads
    ) -> torch.Tensor:
        """See ``Kernels``."""
        dcells = packed.spread_gradient(dout)
        return packed.gather_gradient(
            attend_backward(packed.spread(qkv), dcells, packed.shape, heads)
        )

    def logprobs_and_kl(
        self,
        logits: torch.Tensor,
        delta: torch.Tensor | None,
        temperature: torch.Tensor,
        chosen: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See ``Kernels``."""
        z, saved = _scaled(logits, temperature), torch.zeros(len(logits), 2, device=logits.device)
        saved[:, 0] = z.logsumexp(-1)
        logprobs = z.gather(1, chosen[:, None])[:, 0] - saved[:, 0]
        kl = torch.zeros_like(temperature)
        if delta is not None:
            scaled_delta = _scaled(delta, temperature)
            base_mass = (z - scaled_delta).logsumexp(-1)
            saved[:, 1] = torch.linalg.vecdot(z.sub_(saved[:, :1]).exp_(), scaled_delta)
            kl = saved[:, 1] - (saved[:, 0] - base_mass)
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
        dlogprobs, dkl = gradients
        p = _scaled(logits, temperature).sub_(saved[:, :1]).exp_()
        slopes = -dlogprobs[:, None]
        if delta is not None:
            centred = _scaled(delta, temperature).sub_(saved[:, 1:])
            slopes = centred.mul_(dkl[:, None]).add_(slopes)
        dlogits = p.mul_(slopes)
        dlogits.scatter_add_(1, chosen[:, None], dlogprobs[:, None])
        return dlogits.div_(temperature[:, None]).to(logits.dtype)


def _scaled(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    return logits.float() / temperature[:, None]
