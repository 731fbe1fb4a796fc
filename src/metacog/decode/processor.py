"""Budgets for those who stay with transformers: a logits processor with a budget for each row.

    processor = BudgetProcessor(tokenizer, budgets=[16, 0, -1], max_new_tokens=256)
    model.generate(**batch, max_new_tokens=256, logits_processor=[processor])

The rule is the engine's own: the same controller says what is forced and what may not come. Nothing
else of metacog acts: no reading, no re-reading, no gate.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from metacog.decode.batch_budget import BatchController
from metacog.decode.budget import ControllerSettings
from metacog.errors import InputError
from metacog.text.resolve import Tokenizer, resolve_tags


class BudgetProcessor:
    """Holds THINK of each row of one `generate` call to a budget of its own; made anew for each call.

    Prompts must end where THINK has been opened (`metacog.text.render` gives such ids), and be
    padded on the left. Sampling and greedy search keep their rows in place; beam search does not.

    Args:
        tokenizer: The model's.
        budgets: THINK tokens of each row: a number, 0 to close at once, -1 for no limit.
        max_new_tokens: What `generate` is given; the answer's reserve is kept free of it.
        answer_reserve: Tokens kept for the answer.
        min_think: THINK closes by itself after as many tokens, not before.

    Raises:
        InputError: If a budget is below -1; when called, if there are more or fewer rows than
            budgets, or a prompt does not end with the opener of THINK.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        budgets: Sequence[int],
        *,
        max_new_tokens: int,
        answer_reserve: int = 32,
        min_think: int = 1,
    ) -> None:
        self._tags = resolve_tags(tokenizer)
        settings = ControllerSettings(min_think=min_think, answer_reserve=answer_reserve)
        self._controller = BatchController(len(budgets), self._tags, settings)
        for row, budget in enumerate(budgets):
            self._controller.admit(
                row,
                budget=budget,
                max_new_tokens=max_new_tokens,
                max_answer_tokens=max_new_tokens,
            )
        self._rows, self._seen = len(budgets), 0

    @property
    def used(self) -> list[int]:
        """THINK tokens of each row so far."""
        return [int(tokens) for tokens in self._controller.used]

    def __call__(
        self, input_ids: Int[Tensor, "rows seq"], scores: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "rows vocab"]:
        """Return the scores under which nothing but what the controller allows can come."""
        self._observe(input_ids)
        decision = self._controller.decide()
        held = scores.clone()
        self._turn_ends_into_closers(held)
        held[decision.suppressed_rows, decision.suppressed_ids] = -torch.inf
        rows = np.flatnonzero(decision.forced >= 0)
        held[rows] = -torch.inf
        held[rows, decision.forced[rows]] = 0.0
        return held

    def _observe(self, input_ids: Int[Tensor, "rows seq"]) -> None:
        width = input_ids.shape[1]
        if self._seen == 0:
            self._check(input_ids)
        elif width != self._seen + 1:
            raise InputError(
                f"Wanted one token a row more than the {self._seen} seen, got {width}. Make a "
                "BudgetProcessor for each call of generate, and decode without assistant or beams."
            )
        else:
            self._controller.observe(input_ids[:, -1].cpu().numpy())
        self._seen = width

    def _check(self, input_ids: Int[Tensor, "rows seq"]) -> None:
        opener = self._tags.think_open
        if len(input_ids) != self._rows:
            raise InputError(
                f"Wanted {self._rows} rows, one for each budget, got {len(input_ids)}. "
                "Name as many budgets as there are prompts."
            )
        for row, ids in enumerate(input_ids[:, -len(opener) :].tolist()):
            if tuple(ids) != opener:
                raise InputError(
                    f"Wanted a prompt that ends with the opener of THINK, {opener}, got {ids} at the "
                    f"end of row {row}. Render it with metacog.text.render and pad on the left."
                )

    def _turn_ends_into_closers(self, scores: Float[Tensor, "rows vocab"]) -> None:
        """In THINK an end of reply is the closer: its probability goes to the closer's first id."""
        rows = np.flatnonzero(self._controller.thinks_freely())
        ends, close = sorted(self._tags.eos), self._tags.think_close[0]
        among = scores[rows][:, [close, *ends]]
        scores[rows, close] = among.logsumexp(dim=1)
        for end in ends:
            scores[rows, end] = -torch.inf
