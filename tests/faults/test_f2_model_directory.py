"""F2: a model directory is data; what would run code or lead elsewhere is refused before it is used."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from metacog.errors import ModelError
from metacog.model.base import load_base
from tests.faults.hostile import WEIGHTS, copied, rewrite_json


@pytest.fixture
def hostile(tiny_directory: Path, tmp_path: Path) -> Path:
    return copied(tiny_directory, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_map", {"AutoModelForCausalLM": "modeling.Evil"}),
        ("auto_map", {"AutoModelForCausalLM": "someone/evil--modeling.Evil"}),
        ("trust_remote_code", True),
        ("_attn_implementation_internal", "someone/evil"),
        ("_experts_implementation_internal", "someone/evil"),
        ("_attn_implementation", "someone/evil"),
        ("attn_implementation", "paged|someone/evil:run"),
        ("text_config", {"deep": [{"_attn_implementation_internal": "someone/evil"}]}),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_keys_that_name_code(hostile: Path, name: str, key: str, value: object) -> None:
    rewrite_json(hostile / name, **{key: value})
    with pytest.raises(ModelError, match=rf"{name}, got \w+, which names code"):
        load_base(hostile)


def test_a_built_in_implementation_is_no_code(hostile: Path) -> None:
    rewrite_json(hostile / "config.json", _attn_implementation="eager")
    assert load_base(hostile).attention == "sdpa"


def test_code_beside_the_weights_is_refused_and_never_imported(
    hostile: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    code = f"open({str(canary)!r}, 'w')\nclass Evil: pass\n"
    (hostile / "modeling_evil.py").write_text(code, encoding="utf-8")
    rewrite_json(hostile / "config.json", auto_map={"AutoConfig": "modeling_evil.Evil"})
    with pytest.raises(ModelError, match=r"without code, found .*modeling_evil\.py"):
        load_base(hostile)
    assert not canary.exists()
    assert not any("modeling_evil" in name for name in sys.modules)


@pytest.mark.parametrize("kind", ["perpetuum", "", None, ["qwen3"], "vit"])
def test_an_architecture_that_is_unknown_is_named(hostile: Path, kind: object) -> None:
    rewrite_json(hostile / "config.json", model_type=kind)
    with pytest.raises(ModelError) as caught:
        load_base(hostile)
    assert f"causal language model, got {kind!r}" in str(caught.value)


@pytest.mark.parametrize("text", ["[]", '"qwen3"', "{", "", "[" * 100_000, '{"a": 1' + "0" * 5000])
def test_a_configuration_that_is_none(hostile: Path, text: str) -> None:
    (hostile / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json"):
        load_base(hostile)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "wide"},
        {"num_hidden_layers": 4},
        {"num_attention_heads": 0},
        {"hidden_act": "nonesuch"},
    ],
)
def test_settings_that_cannot_be(hostile: Path, changes: dict[str, object]) -> None:
    rewrite_json(hostile / "config.json", **changes)
    with pytest.raises(ModelError, match="hostile"):
        load_base(hostile)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "nonesuch"])
def test_quantized_weights_are_named_as_such(hostile: Path, method: str) -> None:
    rewrite_json(hostile / "config.json", quantization_config={"quant_method": method})
    with pytest.raises(
        ModelError, match=r"config\.json holds a quantization_config\. Use the base"
    ):
        load_base(hostile)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "extra.json", "x.jinja"])
def test_a_file_that_would_fill_memory_is_not_read(hostile: Path, name: str) -> None:
    with (hostile / name).open("ab") as file:
        file.truncate(10 * 2**30)
    with pytest.raises(ModelError, match=rf"Wanted at most \d+ bytes in .*{name}, got 10737418240"):
        load_base(hostile)


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside.json", "nowhere/../../gone"])
def test_a_link_that_leaves_the_directory(hostile: Path, target: str) -> None:
    (hostile.parent / "outside.json").write_text("{}", encoding="utf-8")
    (hostile / "extra.json").symlink_to(target)
    with pytest.raises(ModelError, match=r"extra\.json leads to"):
        load_base(hostile)


def test_templates_that_lead_elsewhere(hostile: Path) -> None:
    (hostile.parent / "elsewhere").mkdir()
    (hostile / "additional_chat_templates").symlink_to(hostile.parent / "elsewhere")
    with pytest.raises(ModelError, match="additional_chat_templates leads to"):
        load_base(hostile)


def test_a_link_that_stays_is_followed(hostile: Path, tiny_directory: Path) -> None:
    (hostile / WEIGHTS).rename(hostile / "blob")
    (hostile / WEIGHTS).symlink_to("blob")
    linked = hostile.parent / "linked"
    linked.symlink_to(hostile)
    assert load_base(linked).digest == load_base(tiny_directory).digest


def test_a_hub_cache_keeps_working_and_no_other_blobs_do(
    tiny_directory: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models--someone--tiny"
    snapshot = repository / "snapshots" / "0123abc"
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in tiny_directory.iterdir():
        shutil.copyfile(file, repository / "blobs" / f"{file.name}-sha")
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}-sha")
    assert load_base(snapshot).digest == load_base(tiny_directory).digest
    other = tmp_path / "models--someone--other" / "blobs"
    shutil.copytree(repository / "blobs", other)
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to(os.path.relpath(other / f"{WEIGHTS}-sha", snapshot))
    with pytest.raises(ModelError, match=rf"{WEIGHTS} leads to"):
        load_base(snapshot)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/model.safetensors", "x/../m.safetensors"]
)
def test_weights_that_lie_elsewhere(hostile: Path, name: str) -> None:
    shutil.copyfile(hostile / WEIGHTS, hostile.parent / WEIGHTS)
    (hostile / WEIGHTS).rename(hostile / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": name}}
    (hostile / f"{WEIGHTS}.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match="weight_map"):
        load_base(hostile)


def test_an_adapter_inside_a_base_is_not_loaded_in_passing(hostile: Path) -> None:
    settings = {"peft_type": "LORA", "base_model_name_or_path": "someone/evil"}
    (hostile / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ModelError, match="found an adapter beside it"):
        load_base(hostile)
