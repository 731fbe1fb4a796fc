"""What of a base was learned, written apart from it, makes the same model with it again."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from metacog.config.model import AdaptationConfig
from metacog.errors import CheckpointError
from metacog.model.adapt import Adapted, adapt, merged_weights
from metacog.model.base import Base, load_base
from metacog.model.learned import with_learned, write_learned

IDS = torch.tensor([[5, 9, 2, 31, 17]])


def adapted(directory: Path, **settings: object) -> tuple[Base, Adapted]:
    """Load a base and move what of it learns."""
    base = load_base(directory)
    torch.manual_seed(2)
    found = adapt(base, AdaptationConfig(**settings))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in (*found.unfrozen, *found.adapters):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return base, found


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize(
    "settings",
    [{"mode": "ln_only", "last_k": 1}, {"unfreeze_all": True}],
    ids=["norms", "everything"],
)
def test_own_weights_replace_those_of_the_base_bit_for_bit(
    tiny_directory: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    base, found = adapted(tiny_directory, **settings)
    written = write_learned(base, tmp_path)
    assert len(load_file(tmp_path / "base_delta.safetensors")) == len(found.unfrozen)
    again = with_learned(load_base(tiny_directory), tmp_path)
    assert torch.equal(logits(again.model), logits(base.model))
    assert again.digest == written.digest != load_base(tiny_directory).digest


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_are_written_as_peft_reads_them(tiny_directory: Path, tmp_path: Path) -> None:
    base, _ = adapted(tiny_directory, mode="lora", last_k=2, lora_rank=2)
    written = write_learned(base, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tiny_directory, local_files_only=True)
    theirs = PeftModel.from_pretrained(plain, str(tmp_path / "adapter")).eval()
    assert torch.equal(logits(theirs), logits(base.model))
    again = with_learned(load_base(tiny_directory), tmp_path)
    assert again.digest == written.digest
    for name, tensor in merged_weights(base.model).items():
        assert again.model.state_dict()[name].allclose(tensor, atol=1e-6), name


def test_the_same_adapters_are_the_same_bytes(tiny_directory: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        base, _ = adapted(tiny_directory, mode="lora", last_k=2, lora_rank=2)
        (tmp_path / name).mkdir()
        write_learned(base, tmp_path / name)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        first, second = (tmp_path / name / "adapter" / file for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_without_anything_learned_the_base_stays_as_it_is(
    tiny_directory: Path, tmp_path: Path
) -> None:
    base = load_base(tiny_directory)
    assert with_learned(base, tmp_path) is base


@pytest.mark.parametrize("fault", ["another name", "another shape", "not finite"])
def test_weights_that_do_not_fit_are_refused_by_name(
    tiny_directory: Path, tmp_path: Path, fault: str
) -> None:
    base, _ = adapted(tiny_directory, mode="ln_only", last_k=1)
    write_learned(base, tmp_path)
    path = tmp_path / "base_delta.safetensors"
    tensors = load_file(path)
    name = min(tensors)
    match fault:
        case "another name":
            tensors["lost.weight"] = tensors.pop(name)
            name = "lost.weight"
        case "another shape":
            tensors[name] = tensors[name][:-1].contiguous()
        case _:
            tensors[name] = tensors[name] * torch.nan
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        with_learned(load_base(tiny_directory), tmp_path)
