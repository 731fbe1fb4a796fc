"""What an evaluation takes from a model, and what it leaves out."""

from dataclasses import replace

from metacog.config.decoding import DecodingConfig
from metacog.eval.arms import LEARNED_ARM
from metacog.eval.runner import Runner
from metacog.eval.setup import setup_of
from metacog.model.bundle import MetacogModel
from tests.unit.eval.hand import question_of


def test_arms_are_sampled_plainly(tiny_model: MetacogModel) -> None:
    """A sampler that the confidence moves would make a capped reply another one than the uncapped."""
    questions = [question_of("gcd", level) for level in range(3)]
    plain = {"temperature": 0.6, "top_p": 1.0}
    moved = {**plain, "modulation": {"enabled": True, "temperature_span": 0.9}}
    found, unknown = [], {(question.id, 0): None for question in questions}
    for sampling in (plain, moved):
        model = replace(tiny_model, decoding=DecodingConfig.model_validate({"sampling": sampling}))
        found.append(Runner(setup_of(model), questions, [0]).run(LEARNED_ARM, unknown))
    assert found[0] == found[1]
