"""Turns the schema's complaints into messages that name the key, the source, and what to do."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_LONGEST_VALUE = 60


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key below a section as a dotted path, sections included."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        yield path
        for section in _sections(field.annotation):
            yield from walk(section, f"{path}.")


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the config classes that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _sections(get_args(annotation)[0])
    else:
        for option in get_args(annotation):
            yield from _sections(option)


def explain(error: ValidationError, root: type[BaseModel], *, source: str) -> str:
    """Return one line for each complaint, beginning with the source and the key."""
    known = tuple(dict.fromkeys(walk(root)))
    return "\n".join(f"{source}: {_describe(detail, known)}" for detail in error.errors())


def complaints(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield the key and the line of each complaint; for one of several keys, the first it names."""
    known = tuple(dict.fromkeys(walk(root)))
    for detail in error.errors():
        line, key = _describe(detail, known), _key(detail, known)
        named = [word for word in line.replace(":", " ").replace(";", " ").split() if word in known]
        yield (named[0] if named and key not in named else key), line


def _describe(detail: ErrorDetails, known: tuple[str, ...]) -> str:
    """Return what is wrong at one place. Our own cross-field messages are whole as they are."""
    key = _key(detail, known)
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key}. {_suggest(key, known)}"
    if detail["type"] == "value_error" and isinstance(detail["input"], dict | BaseModel):
        return f"{message}."
    if detail["type"] in {"model_type", "model_attributes_type"}:
        message = f"wanted a section (keys with values below `{key}:`)"
    value = repr(detail["input"])
    if len(value) > _LONGEST_VALUE:
        value = f"{value[:_LONGEST_VALUE]}..."
    return f"{key}: {message[0].lower()}{message[1:]}, got {value}. Change {key}."


def _key(detail: ErrorDetails, known: tuple[str, ...]) -> str:
    """Return the dotted key of a complaint as a user writes it.

    The schema's path also names the chosen alternative of a union (`run.objective.layer.rollouts`);
    that part is no key and is left out.
    """
    loc = [str(part) for part in detail["loc"]]
    path = ""
    for index, part in enumerate(loc):
        grown = f"{path}.{part}".lstrip(".")
        is_section = any(key.startswith(f"{path}.") for key in known)
        is_alternative = is_section and grown not in known and index < len(loc) - 1
        path = path if is_alternative else grown
    return path


def _suggest(key: str, known: tuple[str, ...]) -> str:
    """Return a sentence that names the nearest key, searched first in the section, then anywhere."""
    section, _, name = key.rpartition(".")
    prefix = f"{section}." if section else ""
    siblings = [k.removeprefix(prefix) for k in known if k.startswith(prefix)]
    siblings = [k for k in siblings if "." not in k]
    if near := get_close_matches(name, siblings, n=1):
        return f"Did you mean {prefix}{near[0]}?"
    by_name = {k.rpartition(".")[2]: k for k in known}
    if near := get_close_matches(name, list(by_name), n=1):
        return f"Did you mean {by_name[near[0]]}?"
    if siblings:
        where = section or "a recipe"
        return f"The keys of {where} are: {', '.join(siblings)}."
    return "`metacog config show` lists the keys."
