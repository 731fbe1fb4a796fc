import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metacog.data.collate import SegmentRow, in_segments, left_padded
from metacog.data.tasks.corpus import TokenRow
from metacog.records import Segment

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


def segment_row(prompt: int, think: int, answer: int, *, untrained: int = 0) -> SegmentRow:
    """A row of tokens 1, 2, ...; the first thoughts are not learned."""
    segments = [Segment.THINK] * think + [Segment.CLOSE] + [Segment.ANSWER] * answer
    first = prompt + 1
    return SegmentRow(
        prompt=tuple(range(1, first)),
        reply=tuple(range(first, first + len(segments))),
        segments=tuple(segments),
        trained=tuple(index >= untrained for index in range(len(segments))),
    )


def test_segments_have_masks_of_their_own_and_padding_is_in_none() -> None:
    batch = in_segments([segment_row(2, 3, 1), segment_row(1, 1, 1, untrained=2)], 99)
    assert batch.ids.tolist() == [[1, 2, 3, 4, 5, 6, 7], [99, 99, 99, 1, 2, 3, 4]]
    drawn = {
        "prompt": ["##.....", "...#..."],
        "think": ["..###..", "....#.."],
        "close": [".....#.", ".....#."],
        "answer": ["......#", "......#"],
        "trained": ["..#####", "......#"],
        "valid": ["#######", "...####"],
    }
    for name, rows in drawn.items():
        mask = getattr(batch, name)
        assert [[cell == "#" for cell in row] for row in rows] == mask.tolist(), name


def test_the_last_column_is_every_row_s_last_token() -> None:
    batch = in_segments([segment_row(n, n, n) for n in (1, 5, 3)], 0)
    assert bool(batch.valid[:, -1].all())
    assert bool(batch.answer[:, -1].all())
