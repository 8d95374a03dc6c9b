"""Changes a row's logits before its token is drawn: penalties, a bias, and a grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.types import Sampling


class Matcher(Protocol):
    """Follows a reply through its grammar."""

    def allowed(self) -> torch.Tensor:
        """Return True for each token that may come next, ``[V]``."""
        ...

    @property
    def failed(self) -> bool:
        """Whether the grammar was given up, so that the reply ends and is not valid."""
        ...

    def accept(self, token_id: int) -> None:
        """Go on by one token."""
        ...


class Adjuster:
    """The penalties, the bias and the grammar of one reply, which depend on the tokens so far.

    The repetition penalty comes first, as in transformers: it divides the positive logits of tokens
    of the prompt and the reply and multiplies the negative ones (arXiv 1909.05858). Then the
    frequency penalty is subtracted for each time that the reply has a token, the presence penalty
    once, and the bias is added, as in OpenAI's API. Last, the grammar's choice is left.

    Args:
        sampling: The request's sampling parameters.
        prompt_ids: The token ids of the prompt.
        matcher: Says which tokens a grammar allows; None without one.

    Attributes:
        forced: Whether the grammar left one token alone, the last time.
    """

    def __init__(
        self, sampling: Sampling, prompt_ids: Sequence[int], matcher: Matcher | None = None
    ) -> None:
        self.forced = False
        self._sampling, self._matcher = sampling, matcher
        self._seen = set(prompt_ids) if sampling.repetition_penalty != 1 else set[int]()
        self._counts: dict[int, int] = {}

    def accept(self, token_id: int) -> None:
        """Count a token of the reply."""
        self._counts[token_id] = self._counts.get(token_id, 0) + 1
        if self._matcher:
            self._matcher.accept(token_id)

    def apply(self, logits: torch.Tensor) -> None:
        """Change the logits of the next token in place, ``[V]`` fp32."""
        sampling, out = self._sampling, logits
        if (factor := sampling.repetition_penalty) != 1:
            seen = self._ids(sorted(self._seen | self._counts.keys()), out)
            out[seen] = torch.where(out[seen] > 0, out[seen] / factor, out[seen] * factor)
        if self._counts and (sampling.frequency_penalty or sampling.presence_penalty):
            said = self._ids(list(self._counts), out)
            counts = torch.tensor(list(self._counts.values()), device=out.device)
            out[said] -= sampling.frequency_penalty * counts + sampling.presence_penalty
        if sampling.logit_bias:
            biased = self._ids([token_id for token_id, _ in sampling.logit_bias], out)
            out[biased] += torch.tensor([b for _, b in sampling.logit_bias], device=out.device)
        if self._matcher:
            allowed = self._matcher.allowed()
            self.forced = int(allowed.sum()) == 1
            out.masked_fill_(~allowed.to(out.device), -torch.inf)

    def _ids(self, ids: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(ids, device=like.device, dtype=torch.long)
