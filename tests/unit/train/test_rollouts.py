import torch

from metacog.config.decoding import BudgetConfig, DecodingConfig
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.model.bundle import MetacogModel
from metacog.train.features import question_key
from metacog.train.rollouts import collect_features


def test_features_are_collected_in_waves_and_told(tiny_base_model: MetacogModel) -> None:
    budget = BudgetConfig(min_tokens=1, max_tokens=16, answer_reserve=6)
    model = MetacogModel(tiny_base_model.base, decoding=DecodingConfig(budget=budget))
    questions = draw_questions(Split.LAYER_TRAIN, 6, families=["count_bits"])
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int, left: float) -> None:
        assert left >= 0
        told.append((done, total))

    few, many = (
        collect_features(model, questions, seed=0, rows=rows, progress=tell) for rows in (3, 16)
    )
    assert told == [(6, 6), (6, 6)]
    wanted = {int(question.id[:15], 16) for question in questions}
    assert set(few.question.tolist()) == set(many.question.tolist()) == wanted
    assert float(few.natural.max()) <= 16
    for features in (few, many):
        order = features.question.argsort()
        assert torch.equal(features.natural[order], few.natural[few.question.argsort()])


def test_more_rollouts_of_a_question_are_rows_of_their_own(tiny_base_model: MetacogModel) -> None:
    budget = BudgetConfig(min_tokens=1, max_tokens=16, answer_reserve=6)
    model = MetacogModel(tiny_base_model.base, decoding=DecodingConfig(budget=budget))
    questions = draw_questions(Split.LAYER_TRAIN, 4, families=["gcd"])
    features = collect_features(model, questions, seed=0, rollouts=3)
    keys = {question_key(question) for question in questions}
    assert {key: features.question.tolist().count(key) for key in keys} == dict.fromkeys(keys, 3)
    lengths = [set(features.natural[features.question == key].tolist()) for key in keys]
    assert any(len(found) > 1 for found in lengths), "every rollout has the same noise"
