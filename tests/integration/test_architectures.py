"""Other people's architectures: padding, windows, taps and gate, cached against recomputed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metacog.config.model import DEFAULT_PLANS
from metacog.decode.batch import causal, left_padded_ids
from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.rereading import RereadSettings
from metacog.model.base import Base, gated_module, load_base
from metacog.model.bundle import MetacogModel
from metacog.model.cache import SlotCache, growing_cache
from metacog.model.gate import FeedbackGate, GateShape, gate
from metacog.model.metacog import MetacogLayer
from metacog.model.shape import LayerShape
from metacog.model.step import (
    Gating,
    LlamaStep,
    ModuleStep,
    Stepper,
    is_llama_shaped,
    stepper_of,
)
from metacog.model.taps import taps
from metacog.records import Request
from metacog.text.render import render
from metacog.train.gated import positions_of
from tests.architectures import ARCHITECTURES, LLAMA_SHAPED, WINDOW, build

SITES = ("block", "mlp", "attention")
TEXTS = ("What is 3 + 4?", "What is 1 + 2 + 3 + 4 + 5 + 6 + 7?", "How many bits of 12 are set?")
Prompts = tuple[tuple[int, ...], ...]
MakeBase = Callable[..., Base]


@pytest.fixture(scope="session")
def make_base(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeBase:
    """Load a tiny base of an architecture, built once."""
    built: dict[str, Path] = {}

    def make(name: str, attention: str = "sdpa", precision: str = "fp32") -> Base:
        if name not in built:
            built[name] = build(name, tiny_directory, tmp_path_factory.mktemp(name))
        return load_base(built[name], attention=attention, precision=precision)

    return make


def prompts_of(base: Base) -> Prompts:
    return tuple(tuple(render(base.tokenizer, [{"role": "user", "content": t}])) for t in TEXTS)


def gated_model(base: Base, site: str, layer: int = 1) -> MetacogModel:
    torch.manual_seed(1)
    metacog = MetacogLayer(
        LayerShape(hidden=base.hidden, num_layers=3, proj_dim=8, budget_min=2, budget_max=24)
    )
    feedback = FeedbackGate(
        GateShape(hidden=base.hidden, inputs=8 + 4 + 1, layer=layer, site=site)  # type: ignore[arg-type]
    )
    with torch.no_grad():
        feedback.project.weight.normal_(std=0.7)
        feedback.switch.weight.normal_()
    found = MetacogModel(base).with_layer(metacog.eval(), plans=DEFAULT_PLANS)
    return MetacogModel(base, found.reader, feedback.eval())


@torch.no_grad()
def stock_logits(base: Base, ids: tuple[int, ...]) -> Tensor:
    """Return the logits as transformers computes them alone, with masks of its own."""
    logits: Tensor = base.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    return logits.float()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_padded_rows_are_what_transformers_computes_alone(
    make_base: MakeBase, name: str, attention: str
) -> None:
    base = make_base(name, attention)
    prompts = prompts_of(base)
    assert max(map(len, prompts)) > WINDOW
    ids, valid = left_padded_ids(prompts, base.pad_id)
    ours = base.logits(ids, mask=causal(valid), positions=positions_of(valid))
    expected = torch.stack([stock_logits(base, prompt) for prompt in prompts])
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def steps_of(base: Base, feedback: FeedbackGate) -> list[Stepper]:
    """The step through the modules, and the fast one with maps laid together and as they are."""
    found: list[Stepper] = [ModuleStep(base, feedback, tapped=True)]
    if is_llama_shaped(base):
        for most in (2**20, 0):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("metacog.model.step.TOGETHER", most)
                found.append(LlamaStep(base, feedback, tapped=True, longest=64))
    return found


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_fast_step_is_taken_where_it_is_right(make_base: MakeBase, name: str) -> None:
    taken = isinstance(stepper_of(make_base(name), None, tapped=False, longest=64), LlamaStep)
    assert taken == (name in LLAMA_SHAPED)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_cached_steps_equal_a_full_pass_with_gate_and_taps(
    make_base: MakeBase, name: str, site: str
) -> None:
    """Rows of different lengths read three more tokens, two of them inside THINK."""
    base = make_base(name)
    model, prompts = gated_model(base, site), prompts_of(base)
    assert model.gate is not None
    gamma = 1 + 0.3 * torch.randn(
        len(prompts), base.hidden, generator=torch.Generator().manual_seed(3)
    )
    more = torch.tensor([[7, 8, 9], [10, 11, 12], [13, 14, 15]])
    thinking = torch.tensor([False, True, True])
    for step in steps_of(base, model.gate):
        slots = SlotCache(len(base.blocks), len(prompts), 64)
        for slot, prompt in enumerate(prompts):
            filled = growing_cache()
            length = len(prompt)
            base.logits(
                torch.tensor([prompt]),
                mask=torch.ones(length, length, dtype=torch.bool).tril()[None, None],
                positions=torch.arange(length)[None],
                cache=filled,
            )
            slots.fill(slot, filled, 0, 0)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        for turn in range(3):
            columns = lengths + turn
            slots.prepare(columns, int(columns.max()) + 1)
            on = thinking[turn].expand(len(prompts))
            done = step(more[:, turn], columns, slots, Gating(gamma, on))
            assert done.taps is not None
        for row, prompt in enumerate(prompts):
            ids = torch.tensor([[*prompt, *more[row].tolist()]])
            width = ids.shape[1]
            marked = torch.zeros(1, width, dtype=torch.bool)
            marked[0, -2:] = True
            module = gated_module(base.blocks[1], site)
            with gate(module, model.gate) as state, taps(base.blocks) as tapped:
                state.set(gamma[row : row + 1], marked)
                whole = base.logits(
                    ids,
                    mask=torch.ones(width, width, dtype=torch.bool).tril()[None, None],
                    positions=torch.arange(width)[None],
                )
            torch.testing.assert_close(done.logits[row], whole[0], atol=1e-4, rtol=1e-4)
            ours = done.taps.at(torch.zeros(len(prompts), dtype=torch.long))[row]
            theirs = tapped.at(torch.tensor([width - 1]))[0]
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_replies_keep_their_budgets_alone_and_together(make_base: MakeBase, name: str) -> None:
    base = make_base(name)
    model = gated_model(base, "block")
    how = EngineSettings(rows=3, reread=RereadSettings("every", 4, revise=False))
    requests = [
        Request(n, prompt, budget, seed=5, max_new_tokens=100, max_answer_tokens=8)
        for n, (prompt, budget) in enumerate(zip(prompts_of(base), (5, 0, 17), strict=True))
    ]
    together = {r.request_id: r for r in Engine(model, how).generate(requests)}
    for request in requests:
        (alone,) = Engine(model, how).generate([request])
        reply = together[request.id]
        assert [s.token for s in reply.steps] == [s.token for s in alone.steps]
        assert request.budget is not None
        assert reply.budget.used <= request.budget


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt-neox"])
def test_bf16_decodes(make_base: MakeBase, name: str) -> None:
    model = gated_model(make_base(name, precision="bf16"), "mlp")
    prompt = prompts_of(model.base)[0]
    (reply,) = Engine(model).generate(
        [Request(0, prompt, 6, max_new_tokens=100, max_answer_tokens=4)]
    )
    assert 0 < reply.budget.used <= 6
