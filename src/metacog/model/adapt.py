"""What of the base may learn: nothing, its norms, low-rank adapters, or all of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import PreTrainedModel

from metacog.config.model import AdaptationConfig
from metacog.errors import ConfigError
from metacog.model.base import Base, digest_of

ADAPTER = "default"
"""PEFT's name of the adapter that a run trains."""


@dataclass(frozen=True)
class Adapted:
    """The parameters of a base that learn, by kind; all others are frozen."""

    unfrozen: Sequence[nn.Parameter] = ()
    """The base's own weights, which learn at a fraction of the learning rate."""
    adapters: Sequence[nn.Parameter] = ()
    """Weights that were added, which learn at the full rate."""

    @property
    def any(self) -> bool:
        """Whether anything of the base learns."""
        return bool(self.unfrozen or self.adapters)


def adapt(base: Base, config: AdaptationConfig) -> Adapted:
    """Freeze a base but for what may learn, and return that.

    `unfreeze_all` is every parameter, whatever `mode` and `last_k` say; `ln_only` the norms of the
    last `last_k` blocks and the norm behind the last one; `lora` adapters on the linear maps of
    those blocks (Hu et al. 2021), zero at the start, which `base.model` then holds.

    Raises:
        ConfigError: If the base has nothing of that kind.
    """
    base.model.requires_grad_(False)
    if not config.enabled:
        return Adapted()
    if config.unfreeze_all:
        base.model.requires_grad_(True)
        return Adapted(unfrozen=list(base.model.parameters()))
    _require_blocks(base, config.last_k)
    if config.mode == "lora":
        return Adapted(adapters=_with_adapters(base, config))
    norms = [p for module in _norms(base, config.last_k) for p in module.parameters()]
    for parameter in norms:
        parameter.requires_grad_(True)
    return Adapted(unfrozen=norms)


def _require_blocks(base: Base, last_k: int) -> None:
    if last_k > len(base.blocks):
        raise ConfigError(
            f"Wanted adaptation.last_k of at most the base's {len(base.blocks)} blocks, got {last_k}."
        )


def _norms(base: Base, last_k: int) -> Iterator[nn.Module]:
    """Yield the norms of the last blocks and those behind them: modules with a vector and no more."""
    inside = {module for block in base.blocks for module in block.modules()}
    last = {module for block in base.blocks[-last_k:] for module in block.modules()}
    behind = False
    for module in base.model.modules():
        behind = behind or module in last
        mine = dict(module.named_parameters(recurse=False))
        is_norm = "weight" in mine and all(p.ndim == 1 for p in mine.values())
        if is_norm and (module in last or (behind and module not in inside)):
            yield module


def _with_adapters(base: Base, config: AdaptationConfig) -> list[nn.Parameter]:
    first = len(base.blocks) - config.last_k
    last = {module for block in base.blocks[first:] for module in block.modules()}
    names = [
        name
        for name, module in base.model.named_modules()
        if module in last and type(module).__name__ in {"Linear", "Conv1D"}
    ]
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules=names,
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in last),
    )
    inject_adapter_in_model(settings, base.model, ADAPTER)
    adapters = [p for p in base.model.parameters() if p.requires_grad]
    for parameter in adapters:  # steps this small are lost in bf16
        parameter.data = parameter.data.float()
    return adapters


def merged_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights of the plain model that computes what an adapted one does."""
    adapters = {n: m for n, m in model.named_modules() if isinstance(m, LoraLinear)}
    found = {
        name: tensor.detach()  # tied ones stay one tensor, and are written once
        for name, tensor in model.state_dict().items()
        if not any(name.startswith(f"{adapter}.") for adapter in adapters)
    }
    for name, module in adapters.items():
        found |= {
            f"{name}.{key}": tensor.detach()
            for key, tensor in module.get_base_layer().state_dict().items()
        }
        weight = found[f"{name}.weight"]
        found[f"{name}.weight"] = weight + module.get_delta_weight(ADAPTER).detach()
    return found


def write_adapted(base: Base, directory: Path) -> Base:
    """Write an adapted base as a plain model, and return it as it then lies in the directory."""
    base.model.save_pretrained(directory, state_dict=merged_weights(base.model))
    base.tokenizer.save_pretrained(directory)
    return replace(base, path=directory, digest=digest_of(directory))
