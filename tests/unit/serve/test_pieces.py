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


def test_blanks_before_an_answer_are_no_stop_text(tiny_model: MetacogModel) -> None:
    pieces = Pieces(tiny_model.base, ("\n",), strip=True)
    said = [pieces.push(token) for token in tiny_model.base.encode("\n\n 42 is it\nor not")]
    assert "".join(said) + pieces.end() == "42 is it"
    assert pieces.stopped


@pytest.mark.slow
def test_four_times_as_long_takes_about_four_times_as_long(tiny_model: MetacogModel) -> None:
    ids = tiny_model.base.encode("3 + 4 = 7\n") * 2000

    def seconds(count: int) -> float:
        begun, pieces = time.process_time(), Pieces(tiny_model.base)
        for token in ids[:count]:
            pieces.push(token)
        return time.process_time() - begun

    assert seconds(8000) < 8 * seconds(2000)


@pytest.mark.parametrize("seed", range(8))
def test_text_in_any_parts_is_cut_as_the_whole(tiny_model: MetacogModel, seed: int) -> None:
    draw, text = Random(seed), "\n  so 漢 21 is <end of it> and on "
    cuts = sorted(draw.sample(range(len(text)), 9))
    pieces = Pieces(tiny_model.base, ("<end>", " and"), strip=True)
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    said = [pieces.add(part) for part in parts]
    assert "".join(said) + pieces.end() == pieces.text == "so 漢 21 is <end of it>"
    assert pieces.stopped
