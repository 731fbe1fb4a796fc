from collections import Counter
from collections.abc import Iterator
from itertools import count

from metacog.data.mixture import Mixture, ShuffleBuffer


def drawn(
    buffer: ShuffleBuffer[int], numbers: Iterator[int], n: int, *, small: int = 10**9
) -> list[int]:
    """Return n rows of a buffer; from row `small` on the source has begun anew."""
    taken = [0]

    def bring() -> int:
        taken[0] += 1
        return next(numbers)

    return [buffer.exchange(bring, may_fill=lambda: taken[0] < small) for _ in range(n)]


def test_sources_come_as_often_as_their_weights_say() -> None:
    mixture = Mixture([3.0, 1.0, 0.5], seed=4)
    counts = Counter(mixture.choose() for _ in range(9000))
    for index, share in enumerate((3 / 4.5, 1 / 4.5, 0.5 / 4.5)):
        assert abs(counts[index] / 9000 - share) < 0.02
    assert mixture.draws == 9000


def test_a_mixture_goes_on_from_a_count() -> None:
    whole = Mixture([1.0, 2.0], seed=0)
    choices = [whole.choose() for _ in range(50)]
    later = Mixture([1.0, 2.0], seed=0)
    later.draws = 20
    assert [later.choose() for _ in range(30)] == choices[20:]
    other = Mixture([1.0, 2.0], seed=1)
    assert [other.choose() for _ in range(50)] != choices


def test_a_buffer_mixes_and_loses_nothing() -> None:
    buffer = ShuffleBuffer[int](8, seed=0)
    found = drawn(buffer, count(), 400)
    assert found != sorted(found)
    assert sorted([*found, *buffer.held]) == list(range(408))


def test_a_buffer_of_one_keeps_the_order() -> None:
    assert drawn(ShuffleBuffer[int](1, seed=0), count(), 20) == list(range(20))


def test_a_buffer_goes_on_with_what_it_held() -> None:
    numbers = count()
    buffer = ShuffleBuffer[int](8, seed=0)
    drawn(buffer, numbers, 13)
    held, draws = buffer.held, buffer.draws
    rest = drawn(buffer, numbers, 30)
    again = ShuffleBuffer[int](8, seed=0)
    again.go_to(held, draws)
    assert drawn(again, count(21), 30) == rest


def test_a_small_source_does_not_fill_a_large_buffer_many_times_over() -> None:
    buffer = ShuffleBuffer[int](1000, seed=0)
    drawn(buffer, count(), 1, small=20)
    assert len(buffer.held) == 20
