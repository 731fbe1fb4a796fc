import torch

from metacog.config.decoding import BudgetConfig, DecodingConfig
from metacog.data.tasks.splits import Split, split_of
from metacog.model.bundle import MetacogModel
from metacog.train.rollouts import collect_features, distinct_questions


def test_questions_are_distinct_and_of_one_split() -> None:
    questions = distinct_questions(Split.LAYER_TRAIN, 120, seed=3, families=["count_bits", "gcd"])
    assert len({question.id for question in questions}) == len(questions) == 120
    assert {split_of(question.text) for question in questions} == {Split.LAYER_TRAIN}
    assert {question.family for question in questions} == {"count_bits", "gcd"}


def test_the_same_seed_asks_the_same_and_another_does_not() -> None:
    ids = [
        [question.id for question in distinct_questions(Split.TEST, 20, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_no_family_means_all_of_them() -> None:
    questions = distinct_questions(Split.BASE_TRAIN, 120, seed=0, families=())
    assert len({question.family for question in questions}) == 9


def test_features_are_collected_in_waves_and_told(tiny_base_model: MetacogModel) -> None:
    budget = BudgetConfig(min_tokens=1, max_tokens=16, answer_reserve=6)
    model = MetacogModel(tiny_base_model.base, decoding=DecodingConfig(budget=budget))
    questions = distinct_questions(Split.LAYER_TRAIN, 6, seed=0, families=["count_bits"])
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
