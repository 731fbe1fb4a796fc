from pathlib import Path

import pytest

from metacog.config.document import apply_overrides, read_document
from metacog.errors import ConfigError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_mapping_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "run:\n  steps: 5\ndata: {tasks: [gcd, primes]}\n")
    assert read_document(path) == {"run": {"steps": 5}, "data": {"tasks": ["gcd", "primes"]}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("run:\n  steps: 1\n  steps: 2\n", "'steps' stands here twice"),
        ("run: {a: 1}\nrun: {b: 1}\n", "'run' stands here twice"),
        ("", "an empty file"),
        ("- 1\n", "got list"),
        ("run: [1\n", "wanted YAML"),
        ("a: 1\n---\nb: 2\n", "wanted YAML"),
        ("run: !!python/object/apply:os.getcwd []\n", "wanted YAML"),
        (b"run: \xff\xfe\x00", "wanted YAML"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str | bytes, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_document(tmp_path / name)


def test_overrides_are_yaml_and_the_last_wins() -> None:
    document = {"run": {"steps": 5, "seed": 1}}
    result = apply_overrides(
        document,
        [
            "run.steps=7",
            "run.steps=8",
            "data.tasks=[gcd, primes]",
            "run.objective.kind=gate",
            "run.name=",
        ],
    )
    assert result == {
        "run": {"steps": 8, "seed": 1, "objective": {"kind": "gate"}, "name": None},
        "data": {"tasks": ["gcd", "primes"]},
    }
    assert document == {"run": {"steps": 5, "seed": 1}}


def test_a_value_may_contain_an_equals_sign() -> None:
    assert apply_overrides({}, ["data.path=a=b"]) == {"data": {"path": "a=b"}}


@pytest.mark.parametrize("override", ["run.steps", "=3", "run..steps=3", ".a=1", "a.=1"])
def test_an_override_must_have_a_key_and_a_value(override: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        apply_overrides({}, [override])


def test_an_override_cannot_go_through_a_value() -> None:
    with pytest.raises(ConfigError, match=r"run\.steps is a value, not a section"):
        apply_overrides({"run": {"steps": 5}}, ["run.steps.more=1"])
