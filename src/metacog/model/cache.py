"""A key-value cache with a slot for each row: preallocated, rows of different lengths.

Columns are allocated for the widest row that has come, and doubled when a row outgrows them: zeroing
room for the longest reply that might come costs more than decoding a short one.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache as Cache  # named by who reads prompts
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

_FEWEST_COLUMNS = 64

States = Float[Tensor, "batch heads seq width"]
Columns = Float[Tensor, "batch heads columns width"]


class SlotLayer(CacheLayerMixin):
    """One block's keys and values, `[rows, heads, columns, width]`; row r holds columns 0..length."""

    keys: Tensor
    values: Tensor

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.rows, self.capacity = rows, capacity
        self.used = 0
        self.width = 0
        self.columns: Int[Tensor, " used"] | None = None

    def lazy_initialization(self, key_states: States, value_states: States) -> None:
        """Allocate once the shape of keys and values is known."""
        self.keys, self.values = (
            states.new_zeros(self.rows, states.shape[1], 0, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def reserve(self, columns: int) -> None:
        """Make room for as many columns; what is there stays."""
        held = self.keys.shape[2]
        if columns > held:
            wanted = min(self.capacity, max(columns, 2 * held, _FEWEST_COLUMNS))
            self.keys, self.values = (
                pad(states, (0, 0, 0, wanted - held)) for states in (self.keys, self.values)
            )

    def update(
        self, key_states: States, value_states: States, *_args: Any, **_kwargs: Any
    ) -> tuple[Columns, Columns]:
        """Write one column of each used row and return all columns up to the widest row."""
        assert self.columns is not None, "a slot cache was used before prepare()."
        rows = torch.arange(self.used, device=key_states.device)
        self.keys[rows, :, self.columns] = key_states[:, :, 0]
        self.values[rows, :, self.columns] = value_states[:, :, 0]
        return self.keys[: self.used, :, : self.width], self.values[: self.used, :, : self.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return width and offset of the mask; the engine brings its own mask."""
        return self.width + query_length - 1, 0

    def get_seq_length(self) -> int:
        """Return the widest row's length."""
        return self.width

    def get_max_length(self) -> int:
        """Return how many columns a row can hold."""
        return self.capacity


class SlotCache(Cache):
    """A cache whose first `used` slots are the running rows; freed slots are filled from the end."""

    def __init__(self, num_layers: int, rows: int, capacity: int) -> None:
        self.slots = [SlotLayer(rows, capacity) for _ in range(num_layers)]
        super().__init__(layers=list(self.slots))
        self.capacity = capacity
        self.width = 0
        """Columns of the widest running row."""

    def prepare(self, columns: Int[Tensor, " used"], width: int) -> None:
        """Say where each running row writes its next column, and how far the widest reaches."""
        self.width = width
        for layer in self.slots:
            if layer.is_initialized:
                layer.reserve(width)
            layer.used, layer.columns, layer.width = len(columns), columns, width

    def fill(self, slot: int, source: Cache, row: int, start: int) -> None:
        """Copy a prefilled row, its padding before `start` left out, into a slot."""
        for layer, filled in zip(self.slots, source.layers, strict=True):
            assert isinstance(filled, DynamicLayer)
            assert filled.keys is not None
            assert filled.values is not None
            if not layer.is_initialized:
                layer.lazy_initialization(filled.keys, filled.values)
            length = filled.keys.shape[2] - start
            layer.reserve(length)
            layer.keys[slot, :, :length] = filled.keys[row, :, start:]
            layer.values[slot, :, :length] = filled.values[row, :, start:]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` columns of one slot to another."""
        for layer in self.slots:
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]


def growing_cache() -> Cache:
    """Return an empty cache that takes up whatever is read: for prompts."""
    return DynamicCache()
