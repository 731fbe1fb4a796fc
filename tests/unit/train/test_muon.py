import pytest
import torch
from torch import nn

from metacog.train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(3, *shape), full_matrices=False)
    given = 7.0 * left @ torch.diag(torch.linspace(0.2, 1.0, min(shape))) @ right
    found = orthogonal(given)
    values = torch.linalg.svdvals(found)
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.3
    diagonal = left.mT @ found @ right.mT
    off = diagonal - torch.diag_embed(torch.diagonal(diagonal, dim1=-2, dim2=-1))
    assert float(off.abs().max()) < 1e-3


def test_it_moves_as_torchs_muon_does_up_to_its_rounding() -> None:
    torch.manual_seed(0)
    start = [torch.randn(16, 48), torch.randn(48, 16), torch.randn(16, 48)]
    ours = [nn.Parameter(matrix.clone()) for matrix in start]
    theirs = [nn.Parameter(matrix.clone()) for matrix in start]
    mine = Muon(ours, lr=0.01, weight_decay=0.1)
    peer = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        peer.step()
    for a, b, first in zip(ours, theirs, start, strict=True):
        moved = (b.detach() - first).norm()
        assert float((a - b).detach().norm() / moved) < 0.03
        assert float(moved) > 0


def test_a_matrix_without_a_gradient_stays_and_a_vector_is_refused() -> None:
    matrix = nn.Parameter(torch.ones(2, 3))
    Muon([matrix], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(matrix, torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"wanted matrices.*\(5,\)"):
        Muon([nn.Parameter(torch.ones(5))], lr=0.1, weight_decay=0.0)
