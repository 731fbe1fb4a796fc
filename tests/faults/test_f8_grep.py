"""F8: nothing in the repository runs what a file holds, nor turns text into a command."""

import re

import pytest

from tests.contracts.source import ROOT, repository_files

PATTERNS = {
    "torch.load": re.compile(r"torch\.load\((?!.*weights_only=True)"),
    "pickle": re.compile(
        r"\b(c?[pP]ickle|dill|joblib)\.(loads?|Unpickler)\(|^\s*(import|from) pickle\b"
    ),
    "yaml.load": re.compile(r"yaml\.(load|unsafe_load|full_load)\("),
    "eval": re.compile(r"(?<![\w.])(eval|exec)\("),
    "trust_remote_code": re.compile(r"trust_remote_code\s*[=:]\s*[Tt]rue"),
    "shell": re.compile(r"shell\s*=\s*True"),
}
LOOKED_AT = {".py", ".yaml", ".yml", ".toml", ".sh", ""}
ALLOWED = (
    {("tests/contracts/test_bans.py", name) for name in PATTERNS}
    | {("tests/faults/test_f8_grep.py", name) for name in PATTERNS}
    | {
        ("tests/faults/hostile.py", "pickle"),
        ("tests/faults/test_f1_pickle.py", "pickle"),
    }
)
"""Files that name what they forbid, or plant what must not run."""


def hits(text: str) -> set[str]:
    return {
        name
        for name, pattern in PATTERNS.items()
        for line in text.splitlines()
        if pattern.search(line)
    }


def test_no_file_has_one_but_those_that_are_allowed() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in repository_files()
        if path.suffix in LOOKED_AT
        for name in hits(path.read_text(encoding="utf-8"))
    }
    assert found - ALLOWED == set()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("torch.load(path)", "torch.load"),
        ("torch.load(path, weights_only=False)", "torch.load"),
        ("import pickle", "pickle"),
        ("x = pickle.loads(b)", "pickle"),
        ("yaml.load(f, Loader=L)", "yaml.load"),
        ("eval(text)", "eval"),
        ("a = exec(text)", "eval"),
        ("from_pretrained(p, trust_remote_code=True)", "trust_remote_code"),
        ("trust_remote_code: true", "trust_remote_code"),
        ("run(command, shell=True)", "shell"),
    ],
)
def test_each_is_seen(line: str, name: str) -> None:
    assert hits(line) == {name}


def test_what_only_looks_alike_is_free() -> None:
    text = "model.eval()\ntorch.load(p, weights_only=True)\nyaml.safe_load(f)\nrun(c, shell=False)"
    assert hits(text) == set()
