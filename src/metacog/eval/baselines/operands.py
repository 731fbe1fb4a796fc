"""What can be known of a question without the model: its family, operands and length."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from metacog.data.tasks.families import FAMILIES
from metacog.eval.evidence import Evidence


def columns(replies: Evidence) -> Float[ndarray, "rows columns"]:
    """Return one column a family, then prompt tokens and operands; NaN where an operand is missing."""
    families = np.eye(len(FAMILIES))[replies.family]
    return np.concatenate([families, replies.prompt_tokens[:, None], replies.operands], axis=1)
