"""A mixture of families or levels that there are not is refused before anything is made."""

import pytest

from metacog.config import parse
from metacog.config.objective import PretrainObjective
from metacog.data.tasks.families import FAMILIES, NUM_LEVELS
from metacog.errors import ConfigError
from metacog.train.pretrain import Pretraining, check_mix


def objective_of(**settings: object) -> tuple:
    run = {"objective": {"kind": "pretrain", **settings}}
    config = parse({"run": run}, source="test")
    assert isinstance(config.run.objective, PretrainObjective)
    return config, config.run.objective


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"stages": [{"family_weights": {"gcd": 1, "gdc": 2, "bits": 1}}]},
            r"stages\.0\.family_weights among .*chain_sum.*, got bits, gdc\.",
        ),
        (
            {"stages": [{}, {"from_step": 2, "direct_families": ["chain_sums"]}]},
            r"stages\.1\.direct_families among .*chain_sum.*, got chain_sums\.",
        ),
        (
            {"level_weights": [1.0] * (NUM_LEVELS - 1)},
            rf"level_weights for the {NUM_LEVELS} levels, got {NUM_LEVELS - 1}\.",
        ),
        (
            {"level_weights": [1.0] * (NUM_LEVELS + 1)},
            rf"level_weights for the {NUM_LEVELS} levels, got {NUM_LEVELS + 1}\.",
        ),
    ],
)
def test_what_there_is_not_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"Wanted run\.objective\.{message}") as caught:
        check_mix(objective_of(**settings)[1])
    # No base lies in this place: whatever looked for it first would say so instead.
    with pytest.raises(ConfigError) as first:
        Pretraining(*objective_of(start="nowhere", **settings))
    assert str(first.value) == str(caught.value)


def test_every_known_name_is_allowed() -> None:
    names = list(FAMILIES)
    stage = {"family_weights": dict.fromkeys(names, 1.0), "direct_families": names}
    check_mix(objective_of(stages=[stage])[1])
    check_mix(objective_of()[1])
