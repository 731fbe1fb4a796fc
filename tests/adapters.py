"""PEFT adapters with random weights, saved as the tools that train them save them."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from metacog.model.places import ADAPTER_NAME

TINA = {
    "r": 8,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "target_modules": [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "up_proj",
        "down_proj",
        "gate_proj",
    ],
    "task_type": "CAUSAL_LM",
}
"""All linear maps of a Qwen2 base, as in the adapters that reasoning is trained into."""


def save_adapter(base: Path, to: Path, *, name: str | None, rows: int = 0, **more: object) -> Path:
    """Train nothing: save an adapter of random weights for a base, under the base's given name.

    Args:
        base: Directory of the base.
        to: Where the adapter goes.
        name: What its settings call the base.
        rows: Embeddings to give the base first, saved with the adapter; 0 leaves them.
        more: What `LoraConfig` takes.
    """
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    wanted = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"], **more}
    wrapped = get_peft_model(model, LoraConfig(**wanted))
    torch.manual_seed(2)
    with torch.no_grad():
        for part, parameter in wrapped.named_parameters():
            if "lora_" in part or "modules_to_save" in part:
                parameter.normal_(std=0.2)
    wrapped.save_pretrained(to, save_embedding_layers=bool(rows))
    rewrite(to, base_model_name_or_path=name)
    return to


def rewrite(adapter: Path, **changes: object) -> None:
    """Change settings of a saved adapter."""
    file = adapter / ADAPTER_NAME
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}), encoding="utf-8")


def peft_model(base: Path, adapter: Path, *, rows: int = 0) -> torch.nn.Module:
    """What PEFT itself makes of both, the adapter beside the base's weights, not in them."""
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    return PeftModel.from_pretrained(model, str(adapter)).eval()
