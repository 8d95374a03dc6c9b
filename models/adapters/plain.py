"""Which of PEFT's options this project serves: plain LoRA on linear layers, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHANGE_PRODUCTS = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "use_rslora",
    "velora_config",
)
_CHANGE_BASE = ("corda", "loftq", "lora_ga", "olora", "pissa")
"""Ways to initialise an adapter that take something out of the base's own weights."""


def not_plain(config: Mapping[str, Any]) -> str | None:
    """Say what PEFT would do besides adding scaled products of pairs to linear layers.

    Args:
        config: An ``adapter_config.json``.

    Returns:
        The option and its value; None when there is nothing.
    """
    if config.get("peft_type") != "LORA":
        return f"peft_type is {config.get('peft_type')!r}, not 'LORA'"
    if config.get("bias", "none") != "none":
        return f"bias is {config['bias']!r}, not 'none'"
    for option in _CHANGE_PRODUCTS:
        if config.get(option):
            return f"{option} is set"
    if str(config.get("init_lora_weights")).startswith(_CHANGE_BASE):
        return f"init_lora_weights is {config['init_lora_weights']!r}, which changes the base"
    return None
