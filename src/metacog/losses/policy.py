"""The policy loss of practice: chosen tokens become likelier where their reply did well."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metacog.losses.report import LossReport, over_known


def policy_loss(
    logits: Float[Tensor, "tokens vocab"],
    targets: Int[Tensor, " tokens"],
    trained: Bool[Tensor, " tokens"],
    before: Float[Tensor, " tokens"],
    advantage: Float[Tensor, " tokens"],
    *,
    clip_ratio: float,
) -> LossReport:
    """Return the clipped surrogate over sampled tokens.

        rho = pi(target) / pi_before(target)
        L   = sum over trained of -min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A)

    (Schulman et al. 2017, equation 7; summed over tokens of all replies alike, so that a long
    reply is not favoured by a mean over its own length: Yu et al. 2025, section 3.3.) Forced and
    altered tokens are not the policy's choice and count nowhere.

    Metrics are the policy's entropy in nats and the share of tokens whose ratio was clipped.

    Args:
        logits: Before each token, as the policy is now.
        targets: The tokens.
        trained: Sampled by the policy from logits that nobody changed.
        before: Log-probability of each token when it was sampled, at temperature 1.
        advantage: Of the reply that each token belongs to.
        clip_ratio: epsilon.
    """
    logp = logits.float().log_softmax(dim=-1)
    ratio = (logp.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - before).exp()
    near = ratio.clamp(1 - clip_ratio, 1 + clip_ratio)
    losses = -torch.minimum(ratio * advantage, near * advantage)
    with torch.no_grad():
        entropy = -(logp.exp() * logp).sum(-1)
        clipped = (near * advantage < ratio * advantage).float()
    return over_known(losses, trained, {"train/entropy": entropy, "rl/clip_ratio": clipped})
