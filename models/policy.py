"""The frozen base with a trainable LoRA adapter: log-probs of replies, and the adapter's files."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from models.adapters import CONFIG_FILE, WEIGHTS_FILE
from models.errors import AdapterError

if TYPE_CHECKING:
    from pathlib import Path

    from models.base import Base
    from models.batch import MicroBatch
    from models.settings import LearnerSettings

_ADAPTER = "default"


class Policy:
    """One model in memory: the policy with the adapter on, the reference with it off.

    The products run in the base's number format; the adapter that is learned and saved is an fp32
    master copy.
    """

    def __init__(self, base: Base, settings: LearnerSettings) -> None:
        config = LoraConfig(
            task_type="CAUSAL_LM",
            base_model_name_or_path=base.name,
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
        )
        self.base = base
        with warnings.catch_warnings():
            # peft warns that the base's name is not its folder, which is what we want, and of a
            # name that it reads itself and transformers deprecates.
            warnings.simplefilter("ignore")
            self.model = get_peft_model(base.model, config, autocast_adapter_dtype=False)
        self.model.eval()  # there is no dropout; evaluation mode keeps the products repeatable
        self._config = self.model.peft_config[_ADAPTER]
        self._config.base_model_name_or_path = base.name
        self._working = {
            self._key(name): parameter
            for name, parameter in self.model.named_parameters()
            if "lora_" in name
        }
        self.master = {
            key: torch.nn.Parameter(parameter.detach().float().clone())
            for key, parameter in self._working.items()
        }

    @staticmethod
    def _key(name: str) -> str:
        """Return a parameter's name as PEFT's files have it."""
        return name.replace(f".{_ADAPTER}.", ".")

    def reset(self, seed: int) -> None:
        """Make a new adapter that changes nothing yet: A random, B zero (arXiv 2106.09685)."""
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for key, master in self.master.items():
                if ".lora_B." in key:
                    master.zero_()
                else:
                    bound = master.shape[1] ** -0.5
                    drawn = torch.rand(master.shape, generator=random)
                    master.copy_((drawn * 2 - 1) * bound)
        self.publish_master()

    def load(self, folder: Path) -> None:
        """Take the weights of an adapter folder whose hashes were checked before.

        Raises:
            AdapterError: Its rank, scale or layers are not those of this policy's settings.
        """
        config = json.loads((folder / CONFIG_FILE).read_text())
        tensors = load_file(folder / WEIGHTS_FILE)
        wanted = (self._config.r, self._config.lora_alpha)
        if (config.get("r"), config.get("lora_alpha")) != wanted:
            raise AdapterError(
                f"{folder} has rank {config.get('r')} and alpha {config.get('lora_alpha')}, but "
                f"the settings say {wanted[0]} and {wanted[1]}: set THUMBLOOP_LORA_RANK and "
                "THUMBLOOP_LORA_ALPHA to the adapter's, or activate base to start anew."
            )
        if tensors.keys() != self.master.keys():
            raise AdapterError(f"{folder} does not adapt the same layers as this policy.")
        with torch.no_grad():
            for key, master in self.master.items():
                master.copy_(tensors[key])
        self.publish_master()

    def save(self, folder: Path) -> None:
        """Write PEFT's two files."""
        config = self._config.to_dict()
        plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
        plain["inference_mode"] = True
        (folder / CONFIG_FILE).write_text(json.dumps(plain, indent=2, sort_keys=True))
        weights = {key: m.detach().cpu().contiguous() for key, m in self.master.items()}
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})

    def publish_master(self) -> None:
        """Copy the master into the weights that the products use."""
        with torch.no_grad():
            for key, parameter in self._working.items():
                parameter.copy_(self.master[key])

    def collect_gradients(self) -> None:
        """Move the products' gradients to the master, and clear them."""
        for key, parameter in self._working.items():
            grad = parameter.grad
            self.master[key].grad = None if grad is None else grad.float()
            parameter.grad = None

    def distributions(self, batch: MicroBatch) -> torch.Tensor:
        """Return the log-probs of all tokens at each kept reply position, ``[kept, V]`` fp32.

        The positions are those where ``batch.mask`` is True, row by row; the logits are divided by
        the temperature at which the reply was sampled.
        """
        head = self.base.model.get_output_embeddings()
        trunk = getattr(self.base.model, self.base.model.base_model_prefix)
        hidden = trunk(input_ids=batch.ids, attention_mask=batch.attention).last_hidden_state
        rows, columns = batch.mask.nonzero(as_tuple=True)
        kept = hidden[rows, batch.reply_positions[rows, columns]]
        logits: torch.Tensor = head(kept).float() / batch.temperature[rows, None]
        return logits.log_softmax(-1)

    def reference_distributions(self, batch: MicroBatch) -> torch.Tensor:
        """Return the same under the frozen base."""
        with torch.no_grad(), self.model.disable_adapter():
            return self.distributions(batch)

    def logprobs(self, batch: MicroBatch) -> torch.Tensor:
        """Return log-probs of the reply tokens at their sampling temperature, ``[B, T]`` fp32."""
        return of_reply(self.distributions(batch), batch)

    def reference_logprobs(self, batch: MicroBatch) -> torch.Tensor:
        """Return the same under the frozen base."""
        return of_reply(self.reference_distributions(batch), batch)

    def generate(self, **arguments: Any) -> torch.Tensor:
        """Decode with transformers' own loop; see ``GenerationMixin.generate``."""
        with torch.no_grad():
            ids: torch.Tensor = self.model.generate(**arguments)
        return ids


def of_reply(distributions: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Pick the log-probs of the tokens that were sampled: ``[kept, V]`` to ``[B, T]``."""
    chosen = distributions.gather(1, batch.reply_ids[batch.mask][:, None])[:, 0]
    return spread(chosen, batch)


def spread(values: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    """Put a value for each kept position where it belongs: ``[kept]`` to ``[B, T]``, else 0."""
    out = torch.zeros(batch.mask.shape, device=values.device)
    return out.masked_scatter(batch.mask, values)
