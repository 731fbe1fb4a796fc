"""Tiny models of many architectures with random weights, saved with the tiny tokenizer."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

WINDOW = 12
"""Of blocks with a sliding window: shorter than the prompts of the tests."""

_COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
}
_HALF_WINDOWS = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
ARCHITECTURES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {**_COMMON, "tie_word_embeddings": False}),
    "llama-biased": ("llama", {**_COMMON, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {**_COMMON, "sliding_window": None}),
    "mistral-window": ("mistral", {**_COMMON, "sliding_window": WINDOW}),
    "qwen2": ("qwen2", {**_COMMON, "tie_word_embeddings": True}),
    "qwen2-windows": ("qwen2", {**_COMMON, **_HALF_WINDOWS, "use_sliding_window": True}),
    "qwen3": ("qwen3", {**_COMMON, "tie_word_embeddings": False}),
    "gemma3": ("gemma3_text", {**_COMMON, **_HALF_WINDOWS, "query_pre_attn_scalar": 8}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}),
    "gpt-neox": (
        "gpt_neox",
        {k: v for k, v in _COMMON.items() if k not in {"num_key_value_heads", "head_dim"}},
    ),
}
LLAMA_SHAPED = frozenset({"llama", "llama-biased", "mistral", "qwen2", "qwen3"})


def build(name: str, tokenizer_path: Path, directory: Path) -> Path:
    """Save a model of an architecture; its weights are large, so that tokens differ."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_path, local_files_only=True)
    kind, sizes = ARCHITECTURES[name]
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(
        kind, **sizes, vocab_size=len(tokenizer), bos_token_id=None, **ends
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3) if parameter.ndim == 2 else parameter.add_(
                torch.randn_like(parameter) * 0.1
            )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
