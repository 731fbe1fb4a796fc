"""Uncapped replies made by hand."""

from dataclasses import replace

import numpy as np

from metacog.eval.evidence import OPERANDS, Evidence


def replies(naturals, **columns) -> Evidence:
    """Return replies of some natural lengths, right from their end on; columns may be named."""
    n, width = len(naturals), max(naturals) + 1
    natural = np.array(naturals, dtype=float)
    places = np.arange(width)
    found = Evidence(
        question=np.array([f"q{i}" for i in range(n)]),
        text=np.array([f"What is {i} + 1?" for i in range(n)], dtype=object),
        prompt=np.array([None] * n),
        think=np.array([None] * n),
        seed=np.zeros(n, dtype=int),
        family=np.zeros(n, dtype=int),
        level=np.zeros(n, dtype=int),
        operands=np.full((n, OPERANDS), np.nan),
        prompt_tokens=np.full(n, 5.0),
        natural=natural,
        need=natural.copy(),
        correct=np.ones(n, dtype=bool),
        right=(places >= natural[:, None]).astype(float),
        line_end=np.zeros((n, width), dtype=bool),
        check_mark=np.zeros((n, width), dtype=bool),
        entropy=np.ones((n, width)),
        prompt_logprob=np.full(n, -1.0),
        answer_logprob=np.full(n, -1.0),
        answer_entropy=np.full(n, 0.5),
        answer_tokens=np.full(n, 2.0),
        p_true=np.full(n, np.nan),
        prompt_states=np.zeros((n, 3, 4), dtype=np.float16),
        end_states=np.zeros((n, 3, 4), dtype=np.float16),
        close_states=np.zeros((n, 3, 4), dtype=np.float16),
    )
    return replace(found, **columns)


def coin(n: int, seed: int = 0) -> np.ndarray:
    """Return outcomes of which about half are right."""
    return np.random.default_rng(seed).random(n) < 0.5
