from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch

from metacog.config import RunConfig, parse
from metacog.config.objective import PretrainObjective
from metacog.data.collate import TokenBatch
from metacog.data.tasks.families import FAMILIES
from metacog.errors import RunError
from metacog.model.bundle import load_model
from metacog.train.pretrain import Pretraining, vocabulary

MakePretraining = Callable[..., Pretraining]

SUMS = {"family_weights": {"chain_sum": 1.0}}
DIVISORS = {"family_weights": {"gcd": 1.0}}
OBJECTIVE = {
    "kind": "pretrain",
    "hidden_size": 32,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_size": 48,
    "matrix_learning_rate": 0.02,
    "batch_tokens": 1024,
    "chunk": 120,
    "vocabulary_questions": 12,
    "compiled": False,
}


def configured(*, steps: int = 12, precision: str = "fp32", **objective: object) -> RunConfig:
    document = {
        "model": {"precision": precision},
        "run": {
            "steps": steps,
            "warmup": 0,
            "learning_rate": 0.01,
            "objective": {**OBJECTIVE, **objective},
        },
    }
    return parse(document, source="test")


def made(config: RunConfig) -> Pretraining:
    objective = config.run.objective
    assert isinstance(objective, PretrainObjective)
    return Pretraining(config, objective)


@pytest.fixture(scope="module")
def staged() -> Pretraining:
    """Sums for four steps, then greatest common divisors."""
    return made(configured(stages=[{"from_step": 0, **SUMS}, {"from_step": 4, **DIVISORS}]))


def texts(training: Pretraining, batch: TokenBatch) -> list[str]:
    return training.tokenizer.batch_decode(batch.ids, skip_special_tokens=True)


def equal(one: TokenBatch, other: TokenBatch) -> bool:
    return torch.equal(one.ids, other.ids) and torch.equal(one.weights, other.weights)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_steps_reduce_the_loss_on_training_and_validation(precision: str) -> None:
    training = made(configured(precision=precision, stages=[SUMS], length_step=128, chunk=400))
    before = training.evaluate()["eval/validation/loss"]
    losses = []
    for batch in training.batches(0):
        with training.step(batch) as result:
            result.loss.backward()
        training.optimizers.step(1.0)
        losses.append(result.metrics["train/loss"])
        assert result.tokens == batch.ids.numel() <= 1024
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.75 * sum(losses[:3])
    assert training.evaluate()["eval/validation/loss"] < 0.75 * before


def test_the_loss_is_the_weighted_cross_entropy(staged: Pretraining) -> None:
    batch = next(b for b in staged.batches(0) if {1.0, 3.0} <= set(b.weights.unique().tolist()))
    with staged.step(batch) as result, torch.no_grad():
        logits = staged.model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions
        ).logits
    total = weight = 0.0
    for row in range(len(batch.ids)):
        for place in range(1, batch.ids.shape[1]):
            share = float(batch.weights[row, place])
            if share:
                chances = logits[row, place - 1].log_softmax(-1)
                total -= share * float(chances[batch.ids[row, place]])
                weight += share
    assert float(result.loss.detach()) == pytest.approx(total / weight, rel=1e-4)


def test_a_later_start_gives_the_batches_that_would_have_come(staged: Pretraining) -> None:
    whole = list(staged.batches(0))
    assert len(whole) == 12
    for start in (1, 4, 6, 11):
        later = list(staged.batches(start))
        assert len(later) == 12 - start
        assert all(equal(a, b) for a, b in zip(later, whole[start:], strict=True))
    assert not equal(whole[0], whole[1])
    assert list(staged.batches(12)) == []


def test_stages_change_the_mixture_at_their_step(staged: Pretraining) -> None:
    kinds = []
    for batch in staged.batches(0):
        lines = texts(staged, batch)
        assert all(("Divisor" in text) != ("arithmetic problem" in text) for text in lines)
        kinds.append({"Divisor" in text for text in lines})
    assert kinds == [{False}] * 4 + [{True}] * 8


def test_a_chunk_that_fills_no_batch_is_refused() -> None:
    few = made(configured(chunk=3, stages=[SUMS]))
    with pytest.raises(RunError, match=r"1024 tokens.*3 examples.*run\.objective\.chunk"):
        next(few.batches(0))
    assert few.evaluate() == {}


def test_rows_are_padded_on_the_left_and_prompts_are_not_trained(staged: Pretraining) -> None:
    padded = 0
    for batch in islice(staged.batches(0), 6):
        padded += int((batch.mask == 0).sum())
        assert torch.equal(batch.mask, batch.mask.sort(dim=1).values)
        assert float(batch.weights[batch.mask == 0].sum()) == 0
        thinks = batch.ids == staged.tokenizer.convert_tokens_to_ids("<think>")
        opened = thinks.long().cumsum(1)
        assert bool((opened[:, -1] == 1).all())
        assert float(batch.weights[(opened == 0) | thinks].sum()) == 0
    assert padded > 0


def test_matrices_learn_by_muon_and_embeddings_do_not(staged: Pretraining) -> None:
    matrices, rest = staged.optimizers.groups
    assert (matrices.name, matrices.matrices, matrices.learning_rate) == ("matrices", True, 0.02)
    assert (rest.name, rest.matrices, rest.learning_rate) == ("rest", False, 0.01)
    total = sum(p.numel() for p in staged.model.parameters())
    assert sum(p.numel() for p in staged.optimizers.parameters) == total
    embedding = staged.model.get_input_embeddings().weight
    assert any(parameter is embedding for parameter in rest.parameters)
    assert {parameter.ndim for parameter in matrices.parameters} == {2}


def test_what_is_saved_is_a_standard_model(staged: Pretraining, tmp_path: Path) -> None:
    staged.save(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.base.tokenizer.padding_side == "left"
    assert loaded.reader is None
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(
            loaded.base.model(input_ids=ids).logits, staged.model(input_ids=ids).logits
        )


def test_a_start_is_gone_on_from_with_its_own_tokenizer(tiny_directory: Path) -> None:
    training = made(configured(start=str(tiny_directory), stages=[SUMS], steps=2))
    given = load_model(tiny_directory).base
    pairs = zip(training.model.parameters(), given.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert training.tokenizer.get_vocab() == given.tokenizer.get_vocab()
    assert training.model.training
    for batch in training.batches(0):
        with training.step(batch) as result:
            result.loss.backward()
        training.optimizers.step(1.0)
    pairs = zip(training.model.parameters(), given.model.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_the_same_seed_makes_the_same_model() -> None:
    one, other = made(configured()), made(configured())
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert equal(next(one.batches(0)), next(other.batches(0)))


def test_the_vocabulary_knows_every_family_and_is_the_same_each_time() -> None:
    one, other = vocabulary(6), vocabulary(6)
    assert one.get_vocab() == other.get_vocab()
    assert len(one) < 3000
    assert len(FAMILIES) == 8
    for text in ("<plan>verify</plan>", "A# #B", "12 × 2"):
        assert one.decode(one.encode(text, add_special_tokens=False)) == text
