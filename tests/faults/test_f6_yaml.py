"""F6: a recipe that would run code, grow without end or nest without end is refused within a second of processor time."""

import time
from pathlib import Path

import pytest

from metacog.config.document import apply_overrides, read_document
from metacog.config.load import load
from metacog.errors import ConfigError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
MERGED = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10)
)
HOSTILE = {
    "object": "run: !!python/object:os.system {}\n",
    "apply": "run: !!python/object/apply:os.system ['true']\n",
    "new": "run: !!python/object/new:type ['x', [], {}]\n",
    "name": "run: !!python/name:os.system\n",
    "module": "run: !!python/module:os\n",
    "bomb": BOMB,
    "merge bomb": MERGED,
    "alias of itself": "run: &a [*a]\n",
    "alias of nothing": "run: *a\n",
    "deep flow": "run: " + "[" * 1_000_000,
    "deep flow, short": "run: " + "[" * 60_000,
    "deep flow, closed": "run: " + "[" * 100 + "]" * 100,
    "deep maps": "run: " + "{a: " * 10_000,
    "deep blocks": "".join(f"{' ' * n}a:\n" for n in range(300)),
    "deep dashes": "- " * 30_000,
    "long": "run:\n" + "# comment\n" * 100_000,
    "many": "run: [" + "1," * 30_000 + "]\n",
    "a number without end": "run: {steps: " + "9" * 10_000 + "}\n",
    "a number in hexadecimal": "run: {steps: 0x" + "f" * 30_000 + "}\n",
    "a number to the base of 60": "run: {steps: 1" + ":59" * 20_000 + "}\n",
    "a date that is none": "run: {name: 2001-99-99}\n",
    "a key that is none": "? [a, b]\n: 1\n",
    "directives": "%YAML 9.9\n---\nrun: 1\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_ends_in_a_clear_error_within_a_second(tmp_path: Path, name: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(HOSTILE[name], encoding="utf-8")
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"recipe\.yaml"):
        load(recipe)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", ["object", "bomb", "alias of itself", "deep flow, short"])
def test_an_override_too(name: str) -> None:
    value = HOSTILE[name] if name == "bomb" else HOSTILE[name].removeprefix("run: ")
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"--set run\.name="):
        apply_overrides({}, [f"run.name={value}"])
    assert time.process_time() - began < 1


def test_anchors_that_stay_small_still_work(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n", encoding="utf-8")
    assert read_document(recipe) == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}, {"x": 1}],
    }


def test_ten_gigabytes_are_not_read(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    with recipe.open("wb") as file:
        file.truncate(10 * 2**30)
    began = time.process_time()
    with pytest.raises(ConfigError, match="longer than 65536 bytes"):
        read_document(recipe)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("run: {setps: 1}", r"run\.setps\. Did you mean run\.steps\?"),
        ("rnu: {}", r"rnu\. Did you mean run\?"),
        ("budget: {max_token: 3}", r"budget\.max_token\. Did you mean budget\.max_tokens\?"),
        ("steps: 3", r"steps\. Did you mean run\.steps\?"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, nearest: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=nearest):
        load(recipe)
