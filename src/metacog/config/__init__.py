"""What a run is: one frozen schema that feeds YAML, `--set`, the cockpit's form and the docs."""

from metacog.config.document import apply_overrides
from metacog.config.load import digest, dump, json_schema, load, parse
from metacog.config.run import RunConfig, cautions

__all__ = [
    "RunConfig",
    "apply_overrides",
    "cautions",
    "digest",
    "dump",
    "json_schema",
    "load",
    "parse",
]
