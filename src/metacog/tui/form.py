"""The launcher's form: every key of the schema with what was typed for it, and what is wrong."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from metacog.config import RunConfig, apply_overrides, load
from metacog.config.explain import complaints
from metacog.config.show import inline, settings
from metacog.errors import ConfigError

KIND = "run.objective.kind"
_OBJECTIVE = "run.objective."
_KIND = RunConfig().run.objective.kind


@dataclass(frozen=True)
class Field:
    """One key of the form."""

    key: str
    help: str
    default: str
    """As YAML on one line."""
    choices: tuple[str, ...] = ()
    """What it may be, where that is a short list."""

    @property
    def section(self) -> str:
        """The first part of its key."""
        return self.key.partition(".")[0]

    @property
    def names_a_place(self) -> bool:
        """Whether it may name a file or directory."""
        return self.key.endswith(("path", ".dataset", ".start"))


class Form:
    """Holds what was typed; the defaults of the schema are never changed."""

    def __init__(self) -> None:
        self.edits: dict[str, str] = {}
        """What was typed by key, as YAML."""
        self.errors: dict[str, str] = {}
        """What is wrong by key; empty where all is right."""
        self.config: RunConfig | None = None
        """What the form says, or None while something is wrong."""
        self.fields: tuple[Field, ...] = ()
        self._recipe: Path | None = None
        self._filled: dict[str, str] = {}
        """What the recipe had filled in."""
        self._check()

    def value(self, field: Field) -> str:
        """Return what a field holds, as YAML on one line."""
        return self.edits.get(field.key, field.default)

    def is_changed(self, field: Field) -> bool:
        """Say whether a field holds something else than its default."""
        return self.value(field) != field.default

    def put(self, key: str, text: str) -> None:
        """Take what was typed for a key."""
        if key == KIND:
            self._forget(_OBJECTIVE)
        self.edits[key] = text.strip()
        self._check()

    def reset(self, prefix: str = "") -> None:
        """Return a key, all keys of a section, or by default all keys to their defaults.

        Args:
            prefix: A key, the beginning of keys up to a dot, or nothing for all.
        """
        self._forget(_OBJECTIVE if prefix == KIND else prefix)
        if not prefix:
            self._recipe, self._filled = None, {}
        self._check()

    def take(self, recipe: Path) -> None:
        """Fill the form from a recipe, everything else at its default.

        Raises:
            ConfigError: If the recipe is not valid; the form stays as it was.
        """
        self._fill(load(recipe))
        self._recipe, self._filled = recipe, dict(self.edits)

    def take_run(self, config: RunConfig) -> None:
        """Fill the form with what a run was started with, but for its name, which is taken."""
        self._fill(config)
        self._recipe, self._filled = None, {}
        self.reset("run.name")

    def _fill(self, config: RunConfig) -> None:
        self.edits = {s.key: inline(s.value) for s in settings(config) if not s.is_default}
        self._check()

    def command(self) -> str:
        """Return shell lines that train the same without a form."""
        assert self.config is not None, "only what is valid can be trained"
        keys = [
            k for k in {**self._filled, **self.edits} if self._filled.get(k) != self.edits.get(k)
        ]
        plain = [f"{key}={self._value(key)}" for key in keys if not key.startswith(_OBJECTIVE)]
        if len(plain) < len(keys):
            objective = self.config.run.objective.model_dump(mode="json")
            plain.append(f"run.objective={inline(objective)}")
        lines = [] if self._recipe else ["metacog config init run.yaml"]
        recipe = shlex.quote(str(self._recipe or "run.yaml"))
        sets = [f"--set {shlex.quote(change)}" for change in plain]
        return "\n".join([*lines, " \\\n  ".join([f"metacog train {recipe}", *sets])])

    def _value(self, key: str) -> str:
        return next(self.value(field) for field in self.fields if field.key == key)

    def _forget(self, prefix: str) -> None:
        reaches_further = not prefix or prefix.endswith(".")
        self.edits = {
            key: text
            for key, text in self.edits.items()
            if not (key.startswith(prefix) if reaches_further else key == prefix)
        }

    def _check(self) -> None:
        kind = self.edits.get(KIND, _KIND)
        self.fields = tuple(_fields(RunConfig, "", kind))
        self.errors = {}
        document: dict[str, Any] = {"run": {"objective": {"kind": kind}}}
        for key, text in self.edits.items():
            try:
                document = apply_overrides(document, [f"{key}={text}"])
            except ConfigError as error:
                self.errors[key] = str(error)
        try:
            config = RunConfig.model_validate(document)
        except ValidationError as error:
            for key, line in complaints(error, RunConfig):
                self.errors.setdefault(key, line)
            config = None
        self.config = None if self.errors else config


def _fields(model: type[BaseModel], prefix: str, kind: str) -> Iterator[Field]:
    for name, info in model.model_fields.items():
        key, annotation = f"{prefix}{name}", info.annotation
        options = _objectives(info)
        if options:
            chosen = options.get(kind, options[_KIND])
            yield from _fields(chosen, f"{key}.", kind)
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _fields(annotation, f"{key}.", kind)
        else:
            yield _field(key, info)


def _field(key: str, info: FieldInfo) -> Field:
    about = " ".join((info.description or "").split())
    default = "" if info.is_required() else inline(info.get_default(call_default_factory=True))
    choices: tuple[str, ...] = ()
    if info.annotation is bool:
        choices = ("true", "false")
    elif key == KIND:
        options = _objectives(_objective_info())
        choices, default = tuple(options), _KIND
    elif get_origin(info.annotation) is Literal:
        choices = tuple(str(choice) for choice in get_args(info.annotation))
    return Field(key, about, default, choices)


def _objective_info() -> FieldInfo:
    run = RunConfig.model_fields["run"].annotation
    assert isinstance(run, type)
    assert issubclass(run, BaseModel)
    return run.model_fields["objective"]


def _objectives(info: FieldInfo) -> Mapping[str, type[BaseModel]]:
    """Return the alternatives of a field by their `kind`; none if it is no choice of sections."""
    if info.discriminator != "kind":
        return {}
    options = get_args(info.annotation)
    return {str(option.model_fields["kind"].default): option for option in options}
