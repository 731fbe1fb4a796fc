"""YAML in: one mapping from a file, and single values from `--set a.b=c`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from metacog.config.bounds import MOST_BYTES, require_bounded
from metacog.errors import ConfigError

_MOST_BITS = 1024
"""Of a whole number: what a float can hold."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a mapping with the same key twice, and a number beyond use."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands here twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = super().construct_yaml_int(node)
        if value.bit_length() > _MOST_BITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number has more than {_MOST_BITS} bits", node.start_mark
            )
        return value


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _UniqueKeyLoader.construct_yaml_int)


def read_document(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        ConfigError: If the file cannot be read, is not YAML, or holds no mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"Wanted a recipe at {path}, but it cannot be read: {error.strerror}. "
            "Name an existing YAML file."
        ) from error
    document = _parse(content, source=str(path))
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path}: wanted a mapping of sections such as `run:`, got "
            f"{'an empty file' if document is None else type(document).__name__}. "
            "`metacog config init` writes one to start from."
        )
    return document


def apply_overrides(document: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of the mapping with each `a.b=value` set in it, the value read as YAML.

    Raises:
        ConfigError: If an override is not of that form or goes through something that is no section.
    """
    result = _copy(document)
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(
                f"--set wanted section.key=value, got {override!r}. Example: --set run.steps=100."
            )
        _put(result, parts, _parse(text, source=f"--set {override}"), override)
    return result


def _put(document: dict[str, Any], parts: list[str], value: object, override: str) -> None:
    """Set one value, making the sections on the way to it."""
    section = document
    for depth, part in enumerate(parts[:-1], start=1):
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            raise ConfigError(
                f"--set {override}: {'.'.join(parts[:depth])} is a value, not a section. "
                "Check the key against `metacog config show`."
            )
    section[parts[-1]] = value


def _copy(document: dict[str, Any]) -> dict[str, Any]:
    """Return a copy whose sections are copies too."""
    return {
        key: _copy(value) if isinstance(value, dict) else value for key, value in document.items()
    }


def _parse(content: str | bytes, *, source: str) -> Any:
    """Return what one YAML document holds."""
    try:
        require_bounded(content)
        loader = _UniqueKeyLoader(content)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:
        # A number or date that cannot be one is a ValueError.
        raise ConfigError(
            f"{source}: wanted YAML with each key once: {error}. Correct it there."
        ) from error
