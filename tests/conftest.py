"""A tiny model with random weights, saved and loaded once a session: whole in every part."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from metacog.config.model import DEFAULT_PLANS
from metacog.config.objective import PretrainObjective
from metacog.model.bundle import MetacogModel, load_model
from metacog.model.calibration import CalibrationBlob
from metacog.model.gate import FeedbackGate, GateShape
from metacog.model.metacog import MetacogLayer
from metacog.model.scratch import untrained_base
from metacog.model.shape import LayerShape
from metacog.text.render import render
from metacog.text.tags import THINK
from metacog.text.tokenizer import END, build_tokenizer

QUESTIONS = (
    ("What is 3 + 4?", "What is 15 + 6?", "What is 1 + 2 + 3 + 4 + 5 + 6?"),
    ("How many bits of 12 are set?", "How many bits of 7 are set?"),
)
LIKED = {THINK.close: 1.0, END: 1.8, "\n": 2.2}
"""How far each embedding is moved towards where the model's states usually lie."""
TRACES = ("3 + 4 = 7\nso 7\n", "15 + 6 = 21\nso 21\n", "1 + 2 = 3\nso 3\n")

MakeModel = Callable[..., MetacogModel]


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of 32 numbers a token, 3 blocks and 2 heads, as `save_pretrained` writes it.

    Its weights are large, so that tokens differ, and it likes line ends, the closer and the end of
    the reply, so that replies close and end by themselves now and then.
    """
    tokenizer = build_tokenizer(QUESTIONS, TRACES)
    size = PretrainObjective(hidden_size=32, num_blocks=3, num_heads=2, mlp_size=48)
    torch.manual_seed(0)
    model = untrained_base(tokenizer, size)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
        embedding = model.get_input_embeddings().weight
        states = model.base_model(torch.arange(len(embedding)).unsqueeze(0)).last_hidden_state
        usual = nn.functional.normalize(states[0].mean(0), dim=0)
        for token, liking in LIKED.items():
            embedding[tokenizer.convert_tokens_to_ids(token)] += liking * usual
    path = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny_base_model(tiny_directory: Path) -> MetacogModel:
    """The base without layer and gate; leave it as it is."""
    return load_model(tiny_directory)


@pytest.fixture(scope="session")
def make_tiny_model(tiny_directory: Path) -> MakeModel:
    """Load the base anew and give it a random layer and a gate whose W is not zero."""

    def make(
        *, spread: float = 0.7, calibration: dict[str, float] | None = None, **gate: object
    ) -> MetacogModel:
        bare = load_model(tiny_directory)
        torch.manual_seed(1)
        layer = MetacogLayer(
            LayerShape(hidden=32, num_layers=3, proj_dim=8, budget_min=2, budget_max=24)
        )
        inputs = layer.shape.proj_dim + layer.shape.num_plans + 1
        feedback = FeedbackGate(GateShape(**{"hidden": 32, "inputs": inputs, "layer": 1, **gate}))
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(std=0.4)
            feedback.project.weight.normal_(std=spread)
            feedback.switch.weight.normal_()
            feedback.switch.bias.zero_()
        blob = CalibrationBlob.identity(layer).model_copy(update=calibration or {})
        return bare.with_layer(
            layer.eval(), plans=DEFAULT_PLANS, gate=feedback.eval(), calibration=blob
        )

    return make


@pytest.fixture(scope="session")
def tiny_model(make_tiny_model: MakeModel) -> MetacogModel:
    """Base, layer and gate; leave them as they are."""
    return make_tiny_model()


@pytest.fixture(scope="session")
def tiny_prompts(tiny_base_model: MetacogModel) -> tuple[tuple[int, ...], ...]:
    """The rendered questions, of different lengths."""
    tokenizer = tiny_base_model.base.tokenizer
    texts = [text for family in QUESTIONS for text in family]
    return tuple(tuple(render(tokenizer, [{"role": "user", "content": t}])) for t in texts)
