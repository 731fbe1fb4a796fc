"""Budgets inside transformers' own generate: one for each row of a batch.

python examples/stay_with_transformers.py
"""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from metacog import BudgetProcessor
from metacog.model.places import resolve_model
from metacog.text.render import render

QUESTION = "How many 1 bits are there in the binary representation of the number 300?"
BUDGETS = [24, 0, -1]


def main() -> None:
    """Print each reply with the THINK tokens that its budget left it."""
    path = resolve_model("nano").base
    tokenizer = AutoTokenizer.from_pretrained(path)
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    ids = torch.tensor([render(tokenizer, [{"role": "user", "content": QUESTION}])] * len(BUDGETS))
    processor = BudgetProcessor(tokenizer, BUDGETS, max_new_tokens=256)
    replies = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=256,
        do_sample=False,
        logits_processor=[processor],
    )
    for budget, used, reply in zip(BUDGETS, processor.used, replies, strict=True):
        text = str(tokenizer.decode(reply[ids.shape[1] :]))
        answer = text.partition("</think>")[2].partition(tokenizer.eos_token)[0]
        print(f"budget {budget}: {used} tokens of thinking, then {answer!r}")


if __name__ == "__main__":
    main()
