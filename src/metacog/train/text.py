"""Text data for a run: checked before anything is written, then opened for its base."""

import copy
from collections.abc import Sequence
from pathlib import Path

from metacog.config.run import RunConfig
from metacog.data.batches import BatchSource
from metacog.data.encode import Encoder
from metacog.data.lengths import LengthProbe, ShareMaximum, alone
from metacog.data.quarantine import Quarantine
from metacog.data.rows import find_kind
from metacog.data.schema import RowKind
from metacog.data.sources import Source, sources_of
from metacog.data.stream import ExampleStream, StreamSettings, held_out
from metacog.model.base import Base
from metacog.train.traces import TextTraces

TextSources = Sequence[tuple[Source, RowKind]]
"""Data sets that could be opened, with the kind of their rows."""


def open_sources(config: RunConfig) -> TextSources:
    """Open every data set once and look at its columns.

    Raises:
        DataError: If one is not there, must not be read now, or has columns of no known kind.
    """
    return [(source, find_kind(source)) for source in sources_of(config.data)]


def text_traces(
    config: RunConfig,
    base: Base,
    sources: TextSources,
    *,
    quarantine: Path | None,
    rank: int = 0,
    world_size: int = 1,
    share: ShareMaximum = alone,
) -> TextTraces:
    """Return the traces that a run learns from, at the start of the stream.

    Args:
        config: Of the run.
        base: Encodes them; its tokenizer is copied for the thread that reads ahead.
        sources: What `open_sources` returned.
        quarantine: File for malformed rows, or None to count them only.
        rank: Which of the processes this is.
        world_size: How many there are; each reads rows of its own.
        share: Gives the largest of a number over all processes.
    """
    data, length = config.data, config.length
    probe = LengthProbe(length.max_len, context=base.context, is_on=length.auto_probe)
    encoder = Encoder(
        copy.deepcopy(base.tokenizer), closer=base.tags.think_close, context=base.context
    )
    stream = ExampleStream(
        sources,
        encoder,
        Quarantine(quarantine, most=data.max_malformed),
        StreamSettings(
            seed=config.run.seed,
            shuffle_buffer=data.shuffle_buffer,
            probe_interval=length.probe_interval,
            rank=rank,
            world_size=world_size,
        ),
    )
    measured_on = held_out(sources, encoder, data.validation_rows, longest=probe.max_len)
    batches = BatchSource(stream, probe, ahead=data.prefetch, share=share)
    size = config.run.batch * config.run.grad_accum
    return TextTraces(base, batches, held_out=measured_on, size=size)
