import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metacog.data.collate import left_padded
from metacog.data.tasks.corpus import TokenRow

PAD = 99
rows_of = st.lists(
    st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from([0.0, 1.0, 3.0])), min_size=1, max_size=9
    ),
    min_size=1,
    max_size=6,
)


def test_rows_by_hand() -> None:
    rows = [TokenRow([5, 6, 7], [0.0, 1.0, 3.0]), TokenRow([8], [1.0])]
    batch = left_padded(rows, 4, PAD)
    assert batch.ids.tolist() == [[PAD, 5, 6, 7], [PAD, PAD, PAD, 8]]
    assert batch.mask.tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]
    assert batch.weights.tolist() == [[0, 0, 1, 3], [0, 0, 0, 1]]
    assert batch.positions.tolist() == [[0, 0, 1, 2], [0, 0, 0, 0]]


@settings(max_examples=40, deadline=None)
@given(rows_of, st.integers(0, 4))
def test_padding_stands_on_the_left_and_weighs_nothing(
    pairs: list[list[tuple[int, float]]], room: int
) -> None:
    rows = [TokenRow([i for i, _ in row], [w for _, w in row]) for row in pairs]
    length = max(len(row.ids) for row in rows) + room
    batch = left_padded(rows, length, PAD)
    for index, row in enumerate(rows):
        start = length - len(row.ids)
        assert batch.ids[index, start:].tolist() == row.ids
        assert batch.weights[index, start:].tolist() == row.weights
        assert batch.positions[index, start:].tolist() == list(range(len(row.ids)))
        assert bool((batch.ids[index, :start] == PAD).all())
        assert float(batch.weights[index, :start].sum()) == 0
    assert batch.mask.sum(1).tolist() == [len(row.ids) for row in rows]
    assert torch.equal(batch.mask, batch.mask.sort(dim=1).values)
