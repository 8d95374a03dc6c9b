"""What an update computes: compiled, or by torch where that cannot be or is faster."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.functional import rms_norm, silu

from models.errors import EngineError
from models.native.llama import LANES, unsupported
from models.policy.attention import Heads, attend, attend_backward
from models.policy.native.library import NativeKernels
from models.policy.products import multiply

if TYPE_CHECKING:
    from pathlib import Path

    from models.policy.packing import Packed

_log = logging.getLogger(__name__)


class Kernels(Protocol):
    """Functions of ``N`` tokens and their gradients; sums are in fp32 whatever the tensors are.

    Attributes:
        padded: Whether products read rows of a multiple of 32 numbers fastest.
    """

    padded: bool

    def multiply(
        self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return ``a @ b`` in their number format.

        Args:
            a: ``[n, k]``, rows contiguous.
            b: ``[k, m]``, rows contiguous, or such a matrix turned (``W.T``).
            out: Where it goes, ``[n, m]``, rows contiguous; new memory by default.
        """
        ...

    def add_product(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
        """Add ``a @ b`` to ``out``; see ``multiply``."""
        ...

    def norm(
        self, x: torch.Tensor, weight: torch.Tensor, epsilon: float, out: torch.Tensor
    ) -> None:
        """Write the RMS norm of ``x`` into ``out``, ``[N, H]`` both."""
        ...

    def norm_backward(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        dy: torch.Tensor,
        epsilon: float,
        more: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the gradient of the norm's input, ``[N, H]``, with ``more`` added to it."""
        ...

    def rotate(
        self,
        columns: torch.Tensor,
        cosines: torch.Tensor,
        sines: torch.Tensor,
        heads: int,
        *,
        back: bool,
    ) -> None:
        """Rotate the first ``heads`` heads of ``columns`` to their positions, in place.

        ``back`` turns them back, which is the rotation's gradient. Cosines and sines are
        ``[N, size / 2]``, fp32.
        """
        ...

    def gate(self, gates: torch.Tensor, out: torch.Tensor) -> None:
        """Write silu(first half) · second half of ``gates`` into ``out``."""
        ...

    def gate_backward(
        self, gates: torch.Tensor, dactivated: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient of ``gates``; write what ``gate`` gives into ``out`` once more."""
        ...

    def attend(self, qkv: torch.Tensor, packed: Packed, heads: Heads, out: torch.Tensor) -> None:
        """Write what each token attends to into ``out``, ``[N, query columns]``.

        Args:
            qkv: Queries, keys, values, ``[N, columns]``; positions are in them already.
            packed: Whose tokens these are.
            heads: What the columns are.
            out: Where the result goes.
        """
        ...

    def attend_backward(
        self, qkv: torch.Tensor, dout: torch.Tensor, packed: Packed, heads: Heads
    ) -> torch.Tensor:
        """Return the gradient of ``qkv``, given that of ``attend``'s result."""
        ...

    def distributions(
        self,
        logits: torch.Tensor,
        gain: torch.Tensor | None,
        temperature: torch.Tensor,
        chosen: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log π(chosen) and KL(π ‖ base), ``[n]``, and facts for the gradient, ``[n, 2]``.

        All fp32. The facts are log Σ exp and the mean gain Σ p g, the second only with a gain.

        Args:
            logits: Before the division by the temperature, ``[n, V]``.
            gain: The logits minus the base's, which small differences survive in any number
                format; without it, KL is 0.
            temperature: ``[n]``.
            chosen: Tokens, ``[n]``.
        """
        ...

    def distributions_backward(
        self,
        logits: torch.Tensor,
        gain: torch.Tensor | None,
        temperature: torch.Tensor,
        chosen: torch.Tensor,
        gradients: tuple[torch.Tensor, torch.Tensor],
        facts: torch.Tensor,
    ) -> torch.Tensor:
        """Return the logits' gradient, ``[n, V]``; it may take their memory.

        With p = π(v): ∂ log π(c) / ∂ z_v = [v = c] - p, and ∂ KL / ∂ z_v = p (g - Σ p g).

        Args:
            logits: As in ``distributions``.
            gain: Likewise.
            temperature: Likewise.
            chosen: Likewise.
            gradients: Of log π(chosen) and of KL.
            facts: What ``distributions`` gave.
        """
        ...


def make_kernels(model: Any, folder: Path | None) -> Kernels:
    """Return the fastest kernels that there are for a model that ``llama.why_not`` lets pass.

    Args:
        model: transformers' model.
        folder: Where compiled libraries are kept; None compiles nothing.
    """
    odd = model.config.intermediate_size % LANES or unsupported(model) is not None
    if folder is None or odd:
        return TorchKernels()
    try:
        return NativeKernels(folder)
    except EngineError as error:
        _log.warning("Learning without compiled kernels, which is slower. %s", error)
        return TorchKernels()


class TorchKernels:
    """By torch's operations; see ``Kernels``."""

    padded = True

    def multiply(
        self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See ``Kernels``."""
        return multiply(a, b, out)

    def add_product(self, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
        """See ``Kernels``."""
        out.addmm_(a, b)

    def norm(
        self, x: torch.Tensor, weight: torch.Tensor, epsilon: float, out: torch.Tensor
    ) -> None:
        """See ``Kernels``."""
        out.copy_(rms_norm(x, weight.shape, weight, epsilon))

    def norm_backward(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        dy: torch.Tensor,
        epsilon: float,
        more: torch.Tensor | None,
    ) -> torch.Tensor:
        """See ``Kernels``: y = r w x with r = (mean x² + ε)^-½.

        So dx = r (w dy) - x r³ mean(x w dy).
        """
        x_32, scaled = x.float(), dy * weight.float()
        r = x_32.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        common = torch.linalg.vecdot(x_32, scaled)[:, None].mul_(r**3 / x.shape[1])
        found = scaled.mul_(r).sub_(x_32.mul_(common)).to(x.dtype)
        return found if more is None else found.add_(more)

    def rotate(
        self,
        columns: torch.Tensor,
        cosines: torch.Tensor,
        sines: torch.Tensor,
        heads: int,
        *,
        back: bool,
    ) -> None:
        """See ``Kernels``."""
        half = cosines.shape[-1]
        cosines, sines = cosines[:, None], sines[:, None] * (-1 if back else 1)
        parted = columns[:, : heads * 2 * half].view(len(columns), heads, 2, half)
        first, second = parted[:, :, 0], parted[:, :, 1]
        turned = first * cosines - second * sines
        parted[:, :, 1] = second * cosines + first * sines
        parted[:, :, 0] = turned

    def gate(self, gates: torch.Tensor, out: torch.Tensor) -> None:
        """See ``Kernels``."""
        first, second = gates.chunk(2, dim=1)
        torch.mul(silu(first), second, out=out)

    def gate_backward(
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

    def distributions(
        self,
        logits: torch.Tensor,
        gain: torch.Tensor | None,
        temperature: torch.Tensor,
        chosen: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See ``Kernels``."""
        z, facts = _scaled(logits, temperature), torch.zeros(len(logits), 2, device=logits.device)
        facts[:, 0] = z.logsumexp(-1)
        logprobs = z.gather(1, chosen[:, None])[:, 0] - facts[:, 0]
        kl = torch.zeros_like(temperature)
        if gain is not None:
            gained = _scaled(gain, temperature)
            base_mass = (z - gained).logsumexp(-1)
            facts[:, 1] = torch.linalg.vecdot(z.sub_(facts[:, :1]).exp_(), gained)
            kl = facts[:, 1] - (facts[:, 0] - base_mass)
        return logprobs, kl, facts

    def distributions_backward(
        self,
        logits: torch.Tensor,
        gain: torch.Tensor | None,
        temperature: torch.Tensor,
        chosen: torch.Tensor,
        gradients: tuple[torch.Tensor, torch.Tensor],
        facts: torch.Tensor,
    ) -> torch.Tensor:
        """See ``Kernels``."""
        dlogprobs, dkl = gradients
        p = _scaled(logits, temperature).sub_(facts[:, :1]).exp_()
        pulls = -dlogprobs[:, None]
        if gain is not None:
            centred = _scaled(gain, temperature).sub_(facts[:, 1:])
            pulls = centred.mul_(dkl[:, None]).add_(pulls)
        dlogits = p.mul_(pulls)
        dlogits.scatter_add_(1, chosen[:, None], dlogprobs[:, None])
        return dlogits.div_(temperature[:, None]).to(logits.dtype)


def _scaled(logits: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    return logits.float() / temperature[:, None]
