"""Makes a base from nothing: a small Qwen3-shaped model for a tokenizer."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from metacog.config.objective import PretrainObjective

_CONTEXT = 1024
_ROPE_THETA = 10_000.0


def untrained_base(
    tokenizer: PreTrainedTokenizerBase, objective: PretrainObjective
) -> PreTrainedModel:
    """Return a model with random weights, its embeddings tied, of the objective's size."""
    heads = objective.num_heads
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=objective.hidden_size,
        num_hidden_layers=objective.num_blocks,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=objective.hidden_size // heads,
        intermediate_size=objective.mlp_size,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)
