"""A configuration as text for people: a table of keys, or a recipe with every key explained."""

from collections.abc import Iterator
from typing import NamedTuple

import yaml
from pydantic import BaseModel, TypeAdapter

from metacog.config.objective import ScheduleObjective
from metacog.config.run import RunConfig

_OBJECTIVE = "run.objective."


class Setting(NamedTuple):
    """One key of a configuration."""

    key: str
    value: object
    doc: str
    is_default: bool


def settings(config: RunConfig) -> Iterator[Setting]:
    """Yield every key that holds a value, in the order of the schema."""
    defaults = _defaults(config)
    for key, value, doc in _leaves(config, ""):
        yield Setting(key, value, doc, key in defaults and defaults[key] == value)


def show(config: RunConfig) -> str:
    """Return one line for each key: the key, its value, a star where it is not the default."""
    rows = [(s.key, inline(s.value), " " if s.is_default else "*") for s in settings(config)]
    width = max(len(key) for key, _, _ in rows)
    return "\n".join(f"{mark} {key:<{width}}  {value}" for key, value, mark in rows) + "\n"


def template(config: RunConfig) -> str:
    """Return a recipe that loads to an equal configuration, each key under its explanation."""
    return "\n".join(_section(config, indent="")) + "\n"


def _defaults(config: RunConfig) -> dict[str, object]:
    """Return every key's default; those of an objective are its own, but a schedule has none."""
    found = {key: value for key, value, _ in _leaves(RunConfig(), "")}
    objective = config.run.objective
    if not isinstance(objective, ScheduleObjective):
        own = {key: value for key, value, _ in _leaves(type(objective)(), _OBJECTIVE)}
        found = {**found, **own, f"{_OBJECTIVE}kind": found[f"{_OBJECTIVE}kind"]}
    return found


def _leaves(model: BaseModel, prefix: str) -> Iterator[tuple[str, object, str]]:
    for name, field in type(model).model_fields.items():
        value = model.__dict__[name]
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, _one_line(field.description)


def _section(model: BaseModel, *, indent: str) -> Iterator[str]:
    for name, field in type(model).model_fields.items():
        value = model.__dict__[name]
        yield f"{indent}# {_one_line(field.description)}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _section(value, indent=f"{indent}  ")
        else:
            yield f"{indent}{name}: {inline(value)}"


def _one_line(description: str | None) -> str:
    assert description is not None, "every field has a docstring; a contract test holds it"
    return " ".join(description.split())


def inline(value: object) -> str:
    """Return a value as YAML on one line."""
    plain = TypeAdapter(object).dump_python(value, mode="json")
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()
