"""Which settings of two configurations differ, and whether a run may go on under the other one."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from metacog.config.run import RunConfig

_HARMLESS = (
    "run.steps",
    "run.save_interval",
    "run.keep_last",
    "run.name",
    "data.prefetch",
    "logging.",
)
"""Settings that change no step that was done: a key, or a section with its dot."""


def differences(before: RunConfig, after: RunConfig) -> dict[str, tuple[object, object]]:
    """Return what each key that differs was and is, by its dotted name."""
    old, new = (dict(_leaves(c.model_dump(mode="json"), "")) for c in (before, after))
    return {
        key: (old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    }


def changes_result(key: str, before: object, after: object) -> bool:
    """Say whether a run that goes on with another value of a key becomes another run.

    More steps are allowed: what was learned stays, and the course of the learning rate is that of
    the new number from then on. Fewer are not.
    """
    if key == "run.steps":
        assert isinstance(before, int)
        assert isinstance(after, int)
        return after < before
    return not key.startswith(_HARMLESS)


def essence(config: RunConfig) -> str:
    """Return the sha256 of all settings that change the result, in hexadecimal.

    Defaults are left out, so that a key which a later version adds is no other setting.
    """
    usual = dict(_leaves(RunConfig().model_dump(mode="json"), ""))
    kept = {
        key: value
        for key, value in _leaves(config.model_dump(mode="json"), "")
        if not key.startswith(_HARMLESS) and (key not in usual or usual[key] != value)
    }
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _leaves(document: Mapping[str, Any], prefix: str) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in document.items():
        if isinstance(value, dict) and value:
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
