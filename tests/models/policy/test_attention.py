from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from models.policy import attention
from models.policy.attention import Heads, attend, attend_backward

HEADS = Heads(kv=2, group=3, size=4, scale=0.3)
SHAPE = (2, 5)


def _plainly(qkv: torch.Tensor) -> torch.Tensor:
    rows, width = SHAPE
    q, k, v = torch.split(qkv, [HEADS.query_columns, HEADS.key_columns, HEADS.key_columns], dim=1)
    q, k, v = (x.view(rows, width, -1, HEADS.size).transpose(1, 2) for x in (q, k, v))
    out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=HEADS.scale, enable_gqa=True)
    return out.transpose(1, 2).reshape(rows * width, -1)


@pytest.mark.parametrize("most_scores", [1, 2**22])
def test_it_is_causal_attention_with_shared_keys(
    most_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_MAX_SCORES", most_scores)
    torch.manual_seed(0)
    qkv = torch.randn(10, HEADS.query_columns + 2 * HEADS.key_columns, requires_grad=True)
    expected, dout = _plainly(qkv), torch.randn(10, HEADS.query_columns)
    (wanted,) = torch.autograd.grad(expected, qkv, dout)
    with torch.no_grad():
        assert torch.allclose(attend(qkv, SHAPE, HEADS), expected, atol=1e-6)
        assert torch.allclose(attend_backward(qkv, dout, SHAPE, HEADS), wanted, atol=1e-5)
