"""What is read: data source, lengths, and where events are written."""

from typing import Literal

from pydantic import model_validator

from metacog.config.base import Config, Count, Flag, Name, PositiveCount, PositiveReal, Share

SinkName = Literal["jsonl", "console", "tensorboard", "wandb", "trackio"]
Domain = Literal["math", "logic", "code", "qa"]


class MixtureSource(Config):
    """One data set of a mixture, and how often it is drawn from."""

    domain: Domain
    """What its questions are about."""

    weight: PositiveReal = 1.0
    """How often a row comes from here, relative to the other sources."""

    dataset: Name | None = None
    """Hub data set; or set `path`."""

    path: Name | None = None
    """Local file or folder (jsonl, json, parquet) or URL of one such file; or set `dataset`."""

    split: Name = "train"
    """Split of the data set or folder; a single file is read whatever its split is called."""

    @model_validator(mode="after")
    def _one_place(self) -> "MixtureSource":
        if (self.dataset is None) == (self.path is None):
            raise ValueError("wanted either dataset or path in each of data.mixture; set one")
        return self


class DataConfig(Config):
    """Where examples come from."""

    dataset: Name = "glaiveai/reasoning-v1-20m"
    """Hub data set, read by imitate with given traces where none of `path`, `mixture` and `tasks` is set."""

    path: Name | None = None
    """Local file or folder (jsonl, json, parquet), which causes no network call, or http(s) URL of one
    such file; overrides `dataset`."""

    mixture: tuple[MixtureSource, ...] = ()
    """Several data sets, interleaved by weight; overrides `dataset`."""

    streaming: Flag = True
    """Read records one by one instead of loading the whole data set first."""

    split: Name = "train"
    """Split of the data set or folder; a single file is read whatever its split is called."""

    sample_limit: PositiveCount | None = None
    """Most records to read of each data set before it starts over, or null for all."""

    shuffle_buffer: PositiveCount = 1000
    """Rows among which the next one is drawn at random; 1 keeps the order of the files."""

    prefetch: PositiveCount = 64
    """Rows that a background thread reads and encodes ahead of training."""

    max_malformed: Share = 0.1
    """Largest share of malformed rows; beyond it the run stops."""

    validation_rows: Count = 64
    """Rows of the validation split to hold out and measure on."""

    tasks: tuple[Name, ...] = ()
    """Verifiable task families to generate questions from; empty for all where an objective learns from
    questions, and for the data set where it can read rows of text (imitate with given traces)."""

    num_prompts: PositiveCount = 30_000
    """Questions to generate over all task families together."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if (self.path is not None) + bool(self.mixture) + bool(self.tasks) > 1:
            raise ValueError(
                "wanted one of data.path, data.mixture and data.tasks, got more; set the others to "
                "data.path=null, data.mixture=[] or data.tasks=[]"
            )
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("data.tasks names a family twice; name each once")
        return self


class LengthConfig(Config):
    """How long an example may be, in tokens."""

    max_len: PositiveCount = 2048
    """Tokens of prompt and reply together at the start; the probe may raise it."""

    auto_probe: Flag = True
    """Look at records of the stream now and then and raise `max_len` to the longest; never lower it."""

    probe_interval: PositiveCount = 1000
    """Records between two probes."""


class LoggingConfig(Config):
    """Where events go."""

    sinks: tuple[SinkName, ...] = ("jsonl", "console")
    """Receivers of events; `jsonl` is always among them, because the cockpit reads it. tensorboard,
    wandb (offline unless WANDB_MODE says otherwise) and trackio come with the extra `track`."""

    @model_validator(mode="after")
    def _jsonl_is_kept(self) -> "LoggingConfig":
        if "jsonl" not in self.sinks:
            raise ValueError("logging.sinks wanted jsonl among its names; add it")
        if len(set(self.sinks)) < len(self.sinks):
            raise ValueError("logging.sinks names a sink twice; name each once")
        return self
