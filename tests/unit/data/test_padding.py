import pytest
import torch

from metacog.data.collate import TokenBatch
from metacog.data.padding import require_left_padded
from metacog.errors import DataError
from metacog.train.gated import ReplyBatch


def test_left_padding_and_none_pass() -> None:
    require_left_padded(torch.tensor([[0, 0, 1], [1, 1, 1]]))
    require_left_padded(torch.tensor([[False, True]]))


@pytest.mark.parametrize("row", [[1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]])
def test_padding_anywhere_else_is_refused_with_its_row(row: list[int]) -> None:
    with pytest.raises(DataError, match=r"rows \[1\] of 3.*padding_side = 'left'"):
        require_left_padded(torch.tensor([[0, 1, 1], row, [1, 1, 1]]))


def test_no_batch_of_tokens_or_replies_can_be_padded_on_the_right() -> None:
    ids, right = torch.tensor([[5, 6, 0]]), torch.tensor([[1, 1, 0]])
    with pytest.raises(DataError, match="padded on the left"):
        TokenBatch(ids, right, torch.zeros(1, 3))
    with pytest.raises(DataError, match="padded on the left"):
        ReplyBatch(((5,),), ids, right.bool(), right.bool(), right.bool(), right.bool())
