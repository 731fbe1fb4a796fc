"""Which source the next row comes from, and in which order rows leave: both counted, so both resume.

Nothing is drawn from a generator that has a state of its own: draw n of a seed is always the same.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mixture:
    """Chooses among sources, each as often as its weight says.

    P(source i) = weight_i / sum of weights, for every row anew
    """

    def __init__(self, weights: Sequence[float], *, seed: int) -> None:
        self._weights, self._seed = tuple(weights), seed
        self.draws = 0
        """Rows chosen so far; set it to go on from there."""

    def choose(self) -> int:
        """Return the index of the source that the next row comes from."""
        chance = Random(f"mixture/{self._seed}/{self.draws}")
        self.draws += 1
        return chance.choices(range(len(self._weights)), self._weights)[0]


class ShuffleBuffer(Generic[Item]):
    """Holds rows, of which a random one leaves when the next one comes.

    Args:
        size: Rows to hold; with 1 the order stays.
        seed: Fixes which leaves.
    """

    def __init__(self, size: int, *, seed: int) -> None:
        self._size, self._seed = size, seed
        self._held: list[Item] = []
        self._draws = 0

    @property
    def held(self) -> tuple[Item, ...]:
        """The rows that wait."""
        return tuple(self._held)

    @property
    def draws(self) -> int:
        """Rows that have left so far."""
        return self._draws

    def go_to(self, held: Sequence[Item], draws: int) -> None:
        """Go on with these rows after so many draws."""
        self._held, self._draws = list(held), draws

    def exchange(self, bring: Callable[[], Item], *, may_fill: Callable[[], bool]) -> Item:
        """Return a random row after taking in new ones until the buffer is full.

        Args:
            bring: Gives the next row.
            may_fill: Whether a buffer that is not full yet shall become so; where the source has
                begun anew, it stays as it is, so that a small source is not held many times over.
        """
        while not self._held or (len(self._held) < self._size and may_fill()):
            self._held.append(bring())
        index = Random(f"shuffle/{self._seed}/{self._draws}").randrange(len(self._held))
        self._draws += 1
        chosen = self._held[index]
        self._held[index] = bring()
        return chosen
