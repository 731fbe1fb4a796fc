"""Fits what tells prompts like a calibration's from others."""

import numpy as np
import torch
from jaxtyping import Float
from sklearn.covariance import LedoitWolf
from torch import Tensor

from metacog.model.familiarity import Familiarity

FEWEST = 20
"""Held-out prompts without which nothing can be called unfamiliar."""


def fit_familiarity(
    states: Float[Tensor, "prompts layers hidden"], *, seed: int = 0
) -> Familiarity | None:
    """Return the distribution of the middle block's states; None where there are too few.

    One half of the prompts gives mean and covariance (shrunk as Ledoit and Wolf 2004), the other the
    distances that new prompts are ranked among.
    """
    block = states.shape[1] // 2
    order = torch.randperm(len(states), generator=torch.Generator().manual_seed(seed))
    half = len(states) // 2
    if half < FEWEST:
        return None
    fitted = LedoitWolf().fit(states[order[:half], block].double().numpy())
    whitener = np.linalg.inv(np.linalg.cholesky(fitted.covariance_))
    found = Familiarity(
        block=block,
        mean=torch.from_numpy(fitted.location_).float(),
        whitener=torch.from_numpy(whitener).float(),
        distances=torch.zeros(0),
    )
    held = found.distance(states[order[half:]]).sort().values
    return Familiarity(found.block, found.mean, found.whitener, held)
