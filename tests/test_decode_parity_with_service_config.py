"""The service splits replies by the tags of training, and writes what the engine of training writes."""

from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from metacog.config.serving import load_serving
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.errors import ConfigError, TagError
from metacog.model.bundle import MetacogModel
from metacog.records import Segment
from metacog.serve.app import Service, build_app
from metacog.serve.run import engine_for
from metacog.text.render import render
from metacog.text.segments import split_ids
from metacog.text.tags import TAGS, THINK, Tag

QUESTION = "What is 15 + 6?"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    path = tmp_path_factory.mktemp("service") / "serving.yaml"
    path.write_text("name: tiny\nbatch: {rows: 4, context: 512}\n", encoding="utf-8")
    config = load_serving(path)
    return Service(name="tiny", config=config)


@pytest.mark.parametrize("budget", [0, 1, 5, "auto"])
def test_a_served_reply_is_that_of_training(
    tiny_model: MetacogModel, service: Service, budget: int | str
) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    ids = tuple(render(tiny_model.base.tokenizer, messages))
    named = None if budget == "auto" else int(budget)
    request = replace(request_for(tiny_model, ids, budget=named, seed=3), noise_id=0)
    (wanted,) = Engine(tiny_model, engine_settings(tiny_model, rows=1)).generate([request])
    body = {"model": "tiny", "messages": messages, "seed": 3, "metacog": True}
    with TestClient(build_app(engine_for(tiny_model, 4, 512), service)) as client:
        said = client.post("/v1/chat/completions", json={**body, "thinking_token_budget": budget})
    choice = said.json()["choices"][0]
    assert choice["metacog"]["token_ids"] == [step.token for step in wanted.steps]
    parts = split_ids(choice["metacog"]["token_ids"], tiny_model.base.tags)
    thought = [step.token for step in wanted.steps if step.segment is Segment.THINK]
    assert list(parts.think) == thought
    assert choice["message"]["reasoning"] == tiny_model.base.decode(parts.think, with_control=True)


def test_the_tags_of_the_service_are_those_of_training(service: Service) -> None:
    assert service.tags == TAGS


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (tuple(tag for tag in TAGS if tag is not THINK), "Wanted the tag think"),
        (
            tuple(Tag("think", "<think>", "</THK>") if tag is THINK else tag for tag in TAGS),
            "</THK>",
        ),
    ],
)
def test_a_service_without_them_does_not_start(
    tiny_model: MetacogModel, service: Service, tags: tuple[Tag, ...], message: str
) -> None:
    with pytest.raises(TagError, match=message):
        build_app(engine_for(tiny_model, 4), replace(service, tags=tags))


@pytest.mark.parametrize(
    "line", ["prot: 8000", "batch: {rows: 0}", "thinking: sometimes", "keys: ['']", "limits: 3"]
)
def test_a_service_file_is_checked_like_a_recipe(tmp_path: Path, line: str) -> None:
    path = tmp_path / "serving.yaml"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"serving\.yaml"):
        load_serving(path)
