"""What of a base learns: gradients reach it and nothing else, and what is saved computes the same."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from metacog.config.model import AdaptationConfig
from metacog.errors import ConfigError
from metacog.model.adapt import Adapted, adapt, write_adapted
from metacog.model.base import Base, load_base
from tests.architectures import build

IDS = torch.tensor([[3, 4, 5, 6, 7]])
LORA = {"mode": "lora", "last_k": 2, "lora_rank": 4, "lora_alpha": 8}
KINDS = ["llama", "qwen3", "gemma3", "gpt2", "gpt-neox"]


def logits_of(base: Base) -> Tensor:
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    return base.logits(IDS, mask=mask, positions=torch.arange(5).unsqueeze(0))


def adapted(directory: Path, **settings: object) -> tuple[Base, Adapted]:
    base = load_base(directory)
    return base, adapt(base, AdaptationConfig.model_validate(settings))


def reached(base: Base) -> set[str]:
    """Return the names of the parameters that a loss on the logits has a gradient for."""
    logits_of(base).square().sum().backward()
    named = base.model.named_parameters()
    return {name for name, p in named if p.grad is not None and bool((p.grad != 0).any())}


def moved(base: Base, found: Adapted) -> set[str]:
    before = {name: p.detach().clone() for name, p in base.model.named_parameters()}
    torch.optim.SGD([*found.unfrozen, *found.adapters], lr=0.1).step()
    return {n for n, p in base.model.named_parameters() if not torch.equal(p, before[n])}


@pytest.fixture(scope="module")
def directory(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tiny_directory, tmp_path_factory.mktemp("llama"))


def test_off_leaves_everything_frozen(directory: Path) -> None:
    base, found = adapted(directory, enabled=False)
    assert not found.any
    assert not any(p.requires_grad for p in base.model.parameters())


def test_norms_of_the_last_blocks_learn_and_the_one_behind_them(directory: Path) -> None:
    base, found = adapted(directory, mode="ln_only", last_k=2)
    wanted = {"model.norm.weight"} | {
        f"model.layers.{block}.{name}_layernorm.weight"
        for block in (1, 2)
        for name in ("input", "post_attention")
    }
    assert reached(base) == wanted
    assert moved(base, found) == wanted
    assert not found.adapters


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_found_in_other_architectures(
    kind: str, tiny_directory: Path, tmp_path: Path
) -> None:
    base, found = adapted(build(kind, tiny_directory, tmp_path / kind), mode="ln_only", last_k=1)
    names = reached(base)
    assert len(found.unfrozen) == len(names)
    assert names
    for name in names:
        part = name.lower()
        assert "norm" in part or "ln_" in part
        assert ".0." not in part
        assert ".1." not in part


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_learn_on_the_maps_of_the_last_blocks_alone(
    kind: str, tiny_directory: Path, tmp_path: Path
) -> None:
    directory = build(kind, tiny_directory, tmp_path / kind)
    with torch.no_grad():
        bare = logits_of(load_base(directory))
    base, found = adapted(directory, **LORA)
    torch.testing.assert_close(logits_of(base).detach(), bare, rtol=0, atol=0)
    first = reached(base)
    assert first
    assert all("lora_B" in name and ".0." not in name for name in first)
    assert moved(base, found) >= first
    assert any("lora_A" in name for name in reached(base))
    assert not found.unfrozen
    maps = sum("lora_B" in name for name, _ in base.model.named_parameters())
    assert maps == len(first) >= 2 * 4


def test_unfreezing_all_overrides_mode_and_last_k(directory: Path) -> None:
    base, found = adapted(directory, unfreeze_all=True, mode="lora", last_k=99)
    every = {name for name, _ in base.model.named_parameters()}
    assert not any("lora" in name for name in every)
    assert reached(base) == every
    assert moved(base, found) == every


def test_more_blocks_than_there_are_is_refused(directory: Path) -> None:
    for mode in ("ln_only", "lora"):
        with pytest.raises(ConfigError, match=r"last_k of at most the base's 3 blocks, got 4"):
            adapted(directory, mode=mode, last_k=4)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("settings", [LORA, {"unfreeze_all": True}], ids=["lora", "all"])
def test_what_is_saved_is_a_plain_model_that_computes_the_same(
    kind: str, settings: dict[str, object], tiny_directory: Path, tmp_path: Path
) -> None:
    base, found = adapted(build(kind, tiny_directory, tmp_path / kind), **settings)
    logits_of(base).square().sum().backward()
    with torch.no_grad():
        for parameter in (*found.unfrozen, *found.adapters):
            parameter += 0.01 * torch.randn_like(parameter)
        wanted = logits_of(base)
    (tmp_path / "saved").mkdir()
    written = write_adapted(base, tmp_path / "saved")
    saved = load_base(tmp_path / "saved")
    assert written.digest == saved.digest
    names = [load_file(path / "model.safetensors").keys() for path in (tmp_path / kind, saved.path)]
    assert names[0] == names[1]  # tied ones once
    assert not any("lora" in name for name, _ in saved.model.named_parameters())
    with torch.no_grad():
        torch.testing.assert_close(logits_of(saved), wanted, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(logits_of(load_base(tmp_path / kind)), wanted, atol=1e-3)
