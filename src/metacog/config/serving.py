"""How a model is served: one file, checked like a recipe."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError

from metacog.config.base import Config, Count, Flag, Name, PositiveCount, PositiveReal
from metacog.config.document import apply_overrides, read_document
from metacog.config.explain import explain
from metacog.errors import ConfigError

Port = Annotated[int, Field(ge=0, le=65535)]
Key = Annotated[SecretStr, Field(min_length=1)]


class BatchConfig(Config):
    """Who is answered when."""

    rows: PositiveCount = 64
    """Most replies that run at once."""

    queue: Count = 64
    """Most requests that wait for a slot; who comes then is told to come back."""

    overtaking: Count = 32
    """Most later requests with a smaller budget that may be let in before one; 0 is first come, first
    served."""

    context: PositiveCount = 4096
    """Most tokens of prompt and reply together, or what the model holds where that is less."""


class LimitsConfig(Config):
    """The most that one request may ask for."""

    body_bytes: PositiveCount = 2**20
    """Longest body."""

    body_seconds: PositiveReal = 10.0
    """Longest time that a body may take to come."""

    header_seconds: PositiveReal = 10.0
    """Longest time that headers may take to come."""

    messages: PositiveCount = 256
    """Messages of a conversation."""

    choices: PositiveCount = 8
    """Replies to one prompt, or prompts of one completion."""

    stops: PositiveCount = 4
    """Texts that end an answer."""

    stop_letters: PositiveCount = 64
    """Letters of one of them."""

    tokens: PositiveCount = 4096
    """Tokens that a reply may name as its limit or its budget."""


class ServingConfig(Config):
    """What is served, to whom, and within which bounds."""

    host: Name = "127.0.0.1"
    """Address to listen on."""

    port: Port = 8000
    """Port to listen on; 0 takes a free one."""

    name: Name | None = None
    """Of the model, as clients name it, or null for its own."""

    keys: tuple[Key, ...] = ()
    """Bearer keys; none leaves the server open to whoever reaches it."""

    thinking: Literal["shown", "hidden"] = "shown"
    """Whether replies hold what was thought; hidden, it is only counted."""

    log_prompts: Flag = False
    """Write prompts into the log; otherwise the log holds counts and times alone."""

    shutdown_seconds: PositiveReal = 30.0
    """Longest time that running replies are given to end once the server is told to."""

    batch: BatchConfig = Field(default_factory=BatchConfig)
    """Who is answered when."""

    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    """The most that one request may ask for."""


def load_serving(path: Path | None, overrides: Iterable[str] = ()) -> ServingConfig:
    """Return the configuration that a file holds, the defaults without one, with overrides on top.

    Raises:
        ConfigError: If the file or an override is not a valid configuration.
    """
    document = apply_overrides({} if path is None else read_document(path), overrides)
    return _checked(document, "--set" if path is None else str(path))


def with_options(
    config: ServingConfig, top: Mapping[str, Any], batch: Mapping[str, Any] | None = None
) -> ServingConfig:
    """Return a configuration in which options of the command line win; None is an option left out.

    Raises:
        ConfigError: If an option is out of its bounds.
    """
    document = config.model_dump()
    document |= {name: value for name, value in top.items() if value is not None}
    document["batch"] |= {name: it for name, it in (batch or {}).items() if it is not None}
    return _checked(document, "the command line")


def _checked(document: Mapping[str, Any], source: str) -> ServingConfig:
    try:
        return ServingConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError(explain(error, ServingConfig, source=source)) from error
