"""What is read: data source, lengths, and where events are written."""

from typing import Literal

from pydantic import model_validator

from metacog.config.base import Config, Flag, Name, PositiveCount

SinkName = Literal["jsonl", "console", "tensorboard", "wandb", "trackio"]


class DataConfig(Config):
    """Where examples come from."""

    dataset: Name = "glaiveai/reasoning-v1-20m"
    """Hub data set, read when neither `path` nor `tasks` is set."""

    path: Name | None = None
    """Local file or folder (jsonl, parquet); overrides `dataset` and causes no network call."""

    streaming: Flag = True
    """Read records one by one instead of loading the whole data set first."""

    split: Name = "train"
    """Split of the data set."""

    sample_limit: PositiveCount | None = None
    """Most records to read, or null for all."""

    tasks: tuple[Name, ...] = ()
    """Verifiable task families to generate questions from, instead of reading a data set."""

    num_prompts: PositiveCount = 30_000
    """Questions to generate over all task families together."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if self.path is not None and self.tasks:
            raise ValueError(
                "wanted data.path or data.tasks, got both; set data.path=null or data.tasks=[]"
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
