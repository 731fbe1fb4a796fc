"""The official client against a real server: what it gets is what the engine writes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from metacog.cli.reply import ask, reply_of
from metacog.model.bundle import MetacogModel
from tests.unit.serve.serving import KEY, QUESTION, body, configured, served

HEAD = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def url(tiny_model: MetacogModel) -> Iterator[str]:
    with served(tiny_model, configured(batch={"rows": 4, "queue": 200})) as found:
        yield found


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def asked(client: openai.OpenAI, seed: int = 0, **extra: Any) -> Any:
    return client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": QUESTION}],
        seed=seed,
        extra_body={"metacog": True, **extra},
    )


@pytest.mark.parametrize("budget", [None, 0, 3, -1])
def test_a_reply_is_the_command_lines(
    client: openai.OpenAI, tiny_model: MetacogModel, budget: int | None
) -> None:
    said = asked(client, 7, thinking_token_budget="auto" if budget is None else budget)
    wanted = reply_of(ask(tiny_model, QUESTION, budget=budget, seed=7))
    choice = said.choices[0]
    assert choice.metacog["token_ids"] == [step.token for step in wanted.steps]
    assert choice.message.content == tiny_model.base.decode(wanted.answer).strip()
    assert choice.message.reasoning == tiny_model.base.decode(wanted.think, with_control=True)
    assert said.usage.completion_tokens_details.reasoning_tokens == wanted.budget.used
    assert choice.metacog["budget"]["enforced"] == wanted.budget.enforced
    assert choice.metacog["close_reason"] == wanted.budget.close_reason


def test_a_stream_says_what_a_whole_reply_says(client: openai.OpenAI) -> None:
    whole = asked(client, 3)
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": QUESTION}],
            seed=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].usage == whole.usage
    deltas: list[Any] = [chunk.choices[0].delta for chunk in chunks[:-1]]
    said = "".join(delta.content or "" for delta in deltas)
    thought = "".join(d.model_extra.get("reasoning", "") for d in deltas)
    assert (said, thought) == (whole.choices[0].message.content, whole.choices[0].message.reasoning)
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_many_mixed_requests_at_once_equal_those_alone(
    client: openai.OpenAI, tiny_model: MetacogModel
) -> None:
    mixed = [(seed, (None, 0, 5, -1)[seed % 4]) for seed in range(40)]

    def ids(one: tuple[int, int | None]) -> Any:
        budget = "auto" if one[1] is None else one[1]
        return asked(client, one[0], thinking_token_budget=budget).choices[0].metacog["token_ids"]

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ids, mixed))
    for (seed, budget), found in zip(mixed, together, strict=True):
        alone = reply_of(ask(tiny_model, QUESTION, budget=budget, seed=seed))
        assert found == [step.token for step in alone.steps]


@pytest.mark.parametrize(
    "extra",
    [
        {"thinking_token_budget": 10**6},
        {"thinking_token_budget": -2},
        {"thinking_token_budget": True},
        {"thinking_token_budget": 4, "thinking_budget": 5},
        {"n": 99},
        {"stop": ["x"] * 9},
        {"no_such_field": 1},
        {"messages": []},
        {"thinking": {"type": "enabled", "budget_tokens": 4}, "max_thinking_tokens": 5},
        {"max_tokens": 10**5},
    ],
)
def test_what_cannot_be_kept_is_refused(client: openai.OpenAI, extra: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        asked(client, **extra)
    assert refused.value.code == "invalid_value"


def test_every_route_but_health_wants_the_key(url: str) -> None:
    for path in ("/v1/models", "/v1/chat/completions", "/none"):
        for head in ({}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": KEY}):
            assert httpx.post(url + path, headers=head, json={}).status_code == 401
    assert httpx.get(f"{url}/health").status_code == 200
    assert httpx.get(f"{url}/ready").json()["ready"]


def test_effort_scales_the_predicted_budget(client: openai.OpenAI) -> None:
    spent = {
        effort: asked(client, reasoning_effort=effort).choices[0].metacog["budget"]
        for effort in ("none", "low", "medium", "high")
    }
    predicted = spent["medium"]["predicted"]
    assert spent["medium"]["enforced"] == predicted
    assert spent["low"]["enforced"] == max(1, round(predicted / 2))
    assert spent["none"]["enforced"] == 0


@pytest.mark.parametrize(
    "named",
    [
        {"thinking_budget": 3},
        {"thinking_budget_tokens": 3},
        {"reasoning_budget_tokens": 3},
        {"max_thinking_tokens": 3},
        {"reasoning_max_tokens": 3, "thinking": {"budget_tokens": 3}},
        {"thinking_token_budget": 3, "reasoning_effort": "none"},
    ],
)
def test_a_budget_is_one_under_every_name(client: openai.OpenAI, named: dict[str, Any]) -> None:
    spent = asked(client, **named).choices[0].metacog["budget"]
    assert (spent["requested"], spent["enforced"], spent["source"]) == (3, 3, "explicit")


@pytest.mark.parametrize(
    "named",
    [
        {"thinking": {"type": "disabled"}},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning_effort": "none"},
    ],
)
def test_thinking_is_switched_off_under_every_name(
    client: openai.OpenAI, named: dict[str, Any]
) -> None:
    choice = asked(client, **named).choices[0]
    assert choice.metacog["close_reason"] == "disabled"
    assert choice.message.reasoning == ""


def test_choices_draw_noise_of_their_own(client: openai.OpenAI, tiny_model: MetacogModel) -> None:
    several = asked(client, 5, n=3, temperature=1.0, thinking_token_budget=6).choices
    first = reply_of(ask(tiny_model, QUESTION, budget=6, seed=5, temperature=1.0))
    assert [choice.index for choice in several] == [0, 1, 2]
    assert several[0].metacog["token_ids"] == [step.token for step in first.steps]
    assert len({tuple(choice.metacog["token_ids"]) for choice in several}) > 1


def test_a_stop_text_ends_the_answer_and_its_report_stays(client: openai.OpenAI) -> None:
    whole = next(
        one
        for one in (asked(client, seed, temperature=1.0) for seed in range(40))
        if len(one.choices[0].message.content) >= 3
    )
    said = whole.choices[0].message.content
    stop = said[1:3]
    seed = next(
        s for s in range(40) if asked(client, s, temperature=1.0).choices[0].message.content == said
    )
    cut = asked(client, seed, temperature=1.0, stop=[stop]).choices[0]
    assert cut.message.content == said[: said.index(stop)].rstrip()
    assert cut.finish_reason == "stop"
    assert cut.metacog["budget"] == whole.choices[0].metacog["budget"]
    kept = cut.metacog["token_ids"]
    assert kept == whole.choices[0].metacog["token_ids"][: len(kept)]


def test_a_text_goes_on_without_a_template(client: openai.OpenAI) -> None:
    given = ["3 + 4 =", "</think> 7 <think>"]
    said = client.completions.create(
        model="tiny", prompt=given, seed=2, extra_body={"thinking_token_budget": 4}
    )
    assert said.object == "text_completion"
    assert [choice.index for choice in said.choices] == [0, 1]
    assert said.usage.completion_tokens_details.reasoning_tokens <= 8
    chunks = client.completions.create(
        model="tiny", prompt=given[0], seed=2, stream=True, extra_body={"thinking_token_budget": 4}
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == said.choices[0].text


def test_hidden_thinking_is_only_counted(tiny_model: MetacogModel, client: openai.OpenAI) -> None:
    shown = asked(client, 3)
    with (
        served(tiny_model, configured(thinking="hidden")) as found,
        openai.OpenAI(base_url=f"{found}/v1", api_key=KEY) as hiding,
    ):
        whole = asked(hiding, 3)
        stream = httpx.post(
            f"{found}/v1/chat/completions", headers=HEAD, json=body(3, stream=True)
        ).text
    choice = whole.choices[0]
    assert choice.message.content == shown.choices[0].message.content
    assert whole.usage == shown.usage
    assert not set(choice.message.model_extra) & {"reasoning", "reasoning_content"}
    assert "reasoning" not in stream
    answer = choice.metacog["token_ids"]
    assert answer == shown.choices[0].metacog["token_ids"][-len(answer) :]
    assert len(answer) < whole.usage.completion_tokens


def test_figures_count_what_was_answered(client: openai.OpenAI, url: str) -> None:
    asked(client, 1, thinking_token_budget=2)
    found = httpx.get(f"{url}/metrics", headers=HEAD).text
    assert 'metacog_requests_total{route="/v1/chat/completions",status="200"}' in found
    assert 'metacog_tokens_total{segment="think"}' in found
    assert QUESTION not in found
    assert KEY not in found


def test_the_page_is_there_without_a_key_and_loads_nothing_from_elsewhere(url: str) -> None:
    page = httpx.get(url)
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for path in ("/", "/page.css", "/page.js"):
        found = httpx.get(url + path)
        assert found.status_code == 200
        assert "//" not in found.text.replace("// ", "")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_said_so(
    url: str, method: str, path: str, status: int, code: str
) -> None:
    found = httpx.request(method, url + path, headers=HEAD)
    assert (found.status_code, found.json()["error"]["code"]) == (status, code)


def test_a_body_is_bounded_with_and_without_a_stated_length(url: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    for content in (b" " * 2_000_000, pieces()):
        found = httpx.post(f"{url}/v1/chat/completions", headers=HEAD, content=content)
        assert (found.status_code, found.json()["error"]["code"]) == (413, "body_too_large")


def test_a_body_without_a_stated_length_is_read(url: str) -> None:
    content = httpx.Request("POST", url, json=body(thinking_token_budget=0)).content
    found = httpx.post(
        f"{url}/v1/chat/completions",
        headers={**HEAD, "Content-Type": "application/json"},
        content=iter([content[:20], content[20:]]),
    )
    assert found.status_code == 200
