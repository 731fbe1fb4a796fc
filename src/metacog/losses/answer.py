"""Cross-entropy on the tokens of a reply that the model itself is to learn."""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from metacog.losses.report import LossReport, over_known


def answer_loss(
    logits: Float[Tensor, "tokens vocab"],
    targets: Int[Tensor, " tokens"],
    trained: Bool[Tensor, " tokens"],
) -> LossReport:
    """Return the cross-entropy of THINK and ANSWER tokens, in nats, over those that are trained.

        L = sum over trained of -log softmax(logits)[target]

    Forced and altered tokens are not the model's own choice: they are left out of sum and count.

    Args:
        logits: Before each token.
        targets: The tokens.
        trained: Sampled by the model from logits that nobody changed.
    """
    losses = cross_entropy(logits.float(), targets, reduction="none")
    right = (logits.argmax(dim=-1) == targets).to(losses.dtype)
    return over_known(losses, trained, {"train/token_accuracy": right})
