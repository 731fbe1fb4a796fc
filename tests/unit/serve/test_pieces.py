"""Text that comes in pieces is the text that comes at once, however long and whatever it holds."""

import time
from random import Random

import pytest

from metacog.model.bundle import MetacogModel
from metacog.serve.pieces import Pieces


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_all_pieces_are_the_whole(tiny_model: MetacogModel, seed: int, strip: bool) -> None:
    base, draw = tiny_model.base, Random(seed)
    fire = base.encode("né 🔥 漢")
    ids = [draw.choice((draw.randrange(base.vocabulary), *fire)) for _ in range(300)]
    pieces = Pieces(base, strip=strip)
    said = "".join(pieces.push(token) for token in ids) + pieces.end()
    whole = base.decode(ids, with_control=not strip)
    assert said == (whole.strip() if strip else whole)


def test_a_stop_text_far_into_a_text_is_found(tiny_model: MetacogModel) -> None:
    base = tiny_model.base
    ids = base.encode("3 + 4 = 7\n" * 60 + "so 21")
    pieces = Pieces(base, ("so",), strip=True)
    said = "".join(pieces.push(token) for token in ids) + pieces.end()
    assert pieces.stopped
    assert said == base.decode(ids).partition("so")[0].rstrip()


@pytest.mark.slow
def test_four_times_as_long_takes_about_four_times_as_long(tiny_model: MetacogModel) -> None:
    ids = tiny_model.base.encode("3 + 4 = 7\n") * 2000

    def seconds(count: int) -> float:
        begun, pieces = time.process_time(), Pieces(tiny_model.base)
        for token in ids[:count]:
            pieces.push(token)
        return time.process_time() - begun

    assert seconds(8000) < 8 * seconds(2000)
