"""Every key of the configuration arrives where the engine looks for it."""

import pytest

from metacog.config.decoding import (
    BudgetConfig,
    DecodingConfig,
    LandingConfig,
    ModulationConfig,
    PlanConfig,
    SamplingConfig,
)
from metacog.decode.budget import ControllerSettings, Landing
from metacog.decode.modulation import Modulation
from metacog.decode.opening import OpeningSettings
from metacog.decode.rereading import RereadSettings
from metacog.decode.settings import engine_settings, request_for
from metacog.errors import InputError, ModelError
from metacog.model.bundle import MetacogModel
from metacog.records import Segment

HOW = DecodingConfig(
    budget=BudgetConfig(
        use_predicted_budget=False,
        min_tokens=4,
        max_tokens=100,
        min_think=3,
        answer_reserve=9,
        revise=False,
        reread="every",
        reread_every=5,
        landing=LandingConfig(enabled=True, window=6, bias=2.5, text="so 7"),
    ),
    plan=PlanConfig(inject=True, scale={"verify": 1.5}),
    sampling=SamplingConfig(
        temperature=0.3,
        top_p=0.8,
        repetition_penalty=1.1,
        modulation=ModulationConfig(
            enabled=True,
            segments=("think", "answer"),
            temperature_span=0.4,
            top_p_span=0.2,
            penalty_span=0.1,
            plan_shift={"verify": 0.5},
        ),
    ),
)


def test_each_key_arrives(tiny_model: MetacogModel) -> None:
    encode = tiny_model.base.encode
    found = engine_settings(tiny_model, HOW, rows=5, gate=False, telemetry=True, debug=True)
    assert (found.rows, found.gate, found.telemetry) == (5, False, True)
    assert found.controller == ControllerSettings(
        min_think=3, answer_reserve=9, landing=Landing(6, 2.5, encode("so 7")), debug=True
    )
    assert found.reread == RereadSettings("every", every=5, revise=False)
    plans = ("direct", "outline", "decompose", "verify")
    assert found.opening == OpeningSettings(
        use_predicted_budget=False,
        max_tokens=HOW.budget.max_tokens,
        min_think=3,
        plan_scale={"verify": 1.5},
        inject_plan=True,
        plan_marks={plan: encode(f"<plan>{plan}</plan>\n") for plan in plans},
        telemetry=True,
        modulation=Modulation(
            0.4, 0.2, {"verify": 0.5}, frozenset({Segment.THINK, Segment.ANSWER}), 0.1
        ),
    )


def test_the_models_own_decoding_is_the_default(tiny_model: MetacogModel) -> None:
    saved = MetacogModel(tiny_model.base, tiny_model.reader, tiny_model.gate, HOW)
    assert engine_settings(saved) == engine_settings(tiny_model, HOW)
    assert engine_settings(tiny_model) == engine_settings(tiny_model, DecodingConfig())


def test_landing_and_modulation_are_off_unless_enabled(tiny_model: MetacogModel) -> None:
    assert engine_settings(tiny_model).controller.landing is None
    assert engine_settings(tiny_model).opening.modulation is None


@pytest.mark.parametrize(("asked", "found"), [(None, False), (True, True), (False, False)])
def test_revise_may_be_overruled(tiny_model: MetacogModel, asked: bool | None, found: bool) -> None:
    assert engine_settings(tiny_model, HOW, revise=asked).reread.revise is found


def test_rereadings_may_be_switched_off(tiny_model: MetacogModel) -> None:
    assert engine_settings(tiny_model, HOW, reread=False).reread.schedule == "none"


def test_a_bare_base_has_no_marks(tiny_base_model: MetacogModel) -> None:
    assert engine_settings(tiny_base_model, HOW).opening.plan_marks == {}


def test_a_request_takes_sampling_and_limits_from_the_model(tiny_model: MetacogModel) -> None:
    saved = MetacogModel(tiny_model.base, tiny_model.reader, tiny_model.gate, HOW)
    request = request_for(saved, (1, 2, 3), request_id=8, budget=6, plan="verify", seed=4)
    assert (request.id, request.prompt, request.seed) == (8, (1, 2, 3), 4)
    assert (request.budget, request.plan) == (6, "verify")
    assert (request.temperature, request.top_p, request.repetition_penalty) == (0.3, 0.8, 1.1)
    assert request.max_new_tokens == 100 + 1 + 9, "thinking, the closer's one id, the answer"
    assert request.max_answer_tokens == 9
    assert request_for(saved, (1,), temperature=0.0).temperature == 0


def test_a_long_prompt_leaves_what_the_context_holds(tiny_model: MetacogModel) -> None:
    saved = MetacogModel(tiny_model.base, tiny_model.reader, tiny_model.gate, HOW)
    request = request_for(saved, (1,) * 1000)
    assert request.max_new_tokens == 1024 - 1000


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 10**30])
def test_a_seed_beyond_64_bits_is_refused(tiny_model: MetacogModel, seed: int) -> None:
    with pytest.raises(InputError, match="seed of at most 64 bits"):
        request_for(tiny_model, (5, 6), seed=seed)
    assert request_for(tiny_model, (5, 6), seed=2**63 - 1).seed == 2**63 - 1


def test_a_token_without_an_embedding_is_refused(tiny_model: MetacogModel) -> None:
    rows = tiny_model.base.vocabulary
    assert request_for(tiny_model, (5, rows - 1)).prompt == (5, rows - 1)
    with pytest.raises(ModelError, match=f"writes the id {rows}, .* embeddings for {rows} tokens"):
        request_for(tiny_model, (5, rows))
