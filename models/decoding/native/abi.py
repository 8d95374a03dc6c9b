"""The ctypes interface to ``step.cpp``: its structures, field by field, and its functions."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PANEL = 32
"""The outputs of a panel of packed weights."""

BLOCK = 512
"""The multiple to which rows of logits are padded."""


class NativeLinear(Structure):
    """A linear layer with weights packed in panels."""

    _fields_ = [
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("panels", c_int32),
        ("inputs", c_int32),
    ]


class NativeLayer(Structure):
    """One decoder layer."""

    _fields_ = [
        ("attention_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("attention_in", NativeLinear),
        ("attention_out", NativeLinear),
        ("mlp_in", NativeLinear),
        ("mlp_out", NativeLinear),
    ]


class NativeModel(Structure):
    """The base's weights and the KV cache."""

    _fields_ = [
        ("layers", c_int32),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_size", c_int32),
        ("tokens", c_int32),
        ("context", c_int32),
        ("key_column", c_int32),
        ("value_column", c_int32),
        ("epsilon", c_float),
        ("scale", c_float),
        ("embedding", c_void_p),
        ("final_norm", c_void_p),
        ("cosines", c_void_p),
        ("sines", c_void_p),
        ("layer", POINTER(NativeLayer)),
        ("head", NativeLinear),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("layer_stride", c_int64),
        ("slot_stride", c_int64),
    ]


class NativeLowRank(Structure):
    """The LoRA factors of a linear layer."""

    _fields_ = [
        ("down", c_void_p),
        ("up", c_void_p),
        ("part", c_void_p),
        ("parts", c_int32),
    ]


class AdapterLayer(Structure):
    """The LoRA factors of one decoder layer."""

    _fields_ = [
        ("attention_in", NativeLowRank),
        ("attention_out", NativeLowRank),
        ("mlp_in", NativeLowRank),
        ("mlp_out", NativeLowRank),
    ]


class Adapter(Structure):
    """The adapter of one policy version."""

    _fields_ = [("rank", c_int32), ("layer", POINTER(AdapterLayer))]


class NativeGroup(Structure):
    """Adjacent tokens with the same adapter."""

    _fields_ = [("adapter", POINTER(Adapter)), ("first", c_int32), ("count", c_int32)]


class NativeStep(Structure):
    """One forward pass: its input tokens, and the buffers of its outputs."""

    _fields_ = [
        ("tokens", c_int32),
        ("groups", c_int32),
        ("outputs", c_int32),
        ("ids", c_void_p),
        ("slots", c_void_p),
        ("positions", c_void_p),
        ("group", POINTER(NativeGroup)),
        ("last", c_void_p),
        ("temperatures", c_void_p),
        ("uniforms", c_void_p),
        ("logits", c_void_p),
        ("logits_stride", c_int64),
        ("low_columns", c_int32),
        ("drawn", c_void_p),
        ("logprobs", c_void_p),
    ]


def open_library(path: Path) -> ctypes.CDLL:
    """Load the compiled library and declare its functions."""
    library = ctypes.CDLL(str(path))
    library.thumbloop_create.argtypes = [c_int32]
    library.thumbloop_create.restype = c_void_p
    library.thumbloop_destroy.argtypes = [c_void_p]
    library.thumbloop_destroy.restype = None
    library.thumbloop_step.argtypes = [
        c_void_p,
        POINTER(NativeModel),
        POINTER(NativeStep),
        c_int32,
        c_int32,
    ]
    library.thumbloop_step.restype = c_int32
    return library
