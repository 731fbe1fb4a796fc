"""From YAML to a `RunConfig` and back, and the digest that tells two configurations apart."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from metacog.config.document import apply_overrides, read_document
from metacog.config.explain import explain
from metacog.config.run import RunConfig
from metacog.errors import ConfigError


def load(path: Path | str, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the configuration of a recipe, with `a.b=value` overrides applied in order.

    Raises:
        ConfigError: If the file or an override is not a valid configuration.
    """
    overrides = tuple(overrides)
    document = apply_overrides(read_document(Path(path)), overrides)
    source = f"{path} with --set" if overrides else str(path)
    return parse(document, source=source)


def parse(document: Mapping[str, Any], *, source: str) -> RunConfig:
    """Return the configuration that a mapping describes; `source` names it in error messages.

    Raises:
        ConfigError: If a key is unknown or a value is not allowed.
    """
    try:
        return RunConfig.model_validate(dict(document))
    except ValidationError as error:
        raise ConfigError(explain(error, RunConfig, source=source)) from error


def dump(config: RunConfig) -> str:
    """Return YAML that loads to an equal configuration."""
    text: str = yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    return text


def digest(config: RunConfig) -> str:
    """Return the sha256 of the configuration's canonical JSON, in hexadecimal.

    Equal configurations have equal digests, however they were written.
    """
    canonical = json.dumps(
        config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe."""
    return RunConfig.model_json_schema()
