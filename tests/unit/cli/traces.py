"""Features made by hand: traces that are right from their second point on."""

import torch

from metacog.train.features import Features


def features_of(model, lengths: list[int]) -> Features:
    """Return traces with a point every four tokens, right from the second point on."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(model.base.blocks), model.base.hidden)
    used = [float(4 * place) for length in lengths for place in range(length)]
    prompt = [row for row, length in enumerate(lengths) for _ in range(length)]
    num, points = len(lengths), len(used)
    return Features(
        prompt_states=torch.randn(num, *shape, generator=generator).half(),
        need=torch.full((num,), 4.0),
        natural=torch.tensor([4.0 * (length - 1) for length in lengths]),
        closed=torch.ones(num, dtype=torch.bool),
        family=torch.zeros(num, dtype=torch.long),
        level=torch.zeros(num, dtype=torch.long),
        prompt_length=torch.full((num,), 5),
        question=torch.arange(num),
        plan=torch.full((num,), -1),
        point_states=torch.randn(points, *shape, generator=generator).half(),
        prompt=torch.tensor(prompt),
        used=torch.tensor(used),
        line_end=torch.tensor([tokens > 0 for tokens in used]),
        needed=torch.tensor([max(0.0, 4.0 - tokens) for tokens in used]),
        ready=torch.tensor([0.0 if tokens == 0 else 1.0 for tokens in used]),
        hope=torch.ones(points),
        right=torch.cat([right_of(4 * (length - 1)) for length in lengths]),
    )


def right_of(natural: int) -> torch.Tensor:
    """Return what is right after 0 to natural tokens: everything from 4 on."""
    return (torch.arange(natural + 1) >= 4).float()
