"""S2: every route but those that hold nothing wants exactly one known key; none is ever said again."""

import logging
from collections.abc import Iterator

import httpx
import pytest

from metacog.model.bundle import MetacogModel
from metacog.serve.app import Service, build_app
from metacog.serve.guard import OPEN_ROUTES
from metacog.serve.run import Redacting, engine_for
from tests.unit.serve.serving import KEY, configured, served

OTHER = "another-key"
WRONG = [
    [],
    [("Authorization", KEY)],
    [("Authorization", f"Bearer {KEY}x")],
    [("Authorization", f"Bearer {KEY[:-1]}")],
    [("Authorization", f"bearer {KEY}")],
    [("Authorization", f"Bearer {KEY.upper()}")],
    [("Authorization", f"Bearer  {KEY}")],
    [("Authorization", "Bearer \u00e9")],
    [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
    [("X-Api-Key", KEY)],
]


@pytest.fixture(scope="module")
def url(tiny_model: MetacogModel) -> Iterator[str]:
    with served(tiny_model, configured(keys=[KEY, OTHER])) as found:
        yield found


@pytest.mark.parametrize("head", WRONG)
def test_no_route_of_the_application_is_open(
    url: str, tiny_model: MetacogModel, head: list[tuple[str, str]]
) -> None:
    app = build_app(engine_for(tiny_model, 1), Service("tiny"))
    routes = {route.path for route in app.routes}
    assert {"/metrics", "/v1/models", "/v1/completions", *OPEN_ROUTES} <= routes
    encoded = [(name, value.encode("latin-1")) for name, value in head]
    for path in (routes - OPEN_ROUTES) | {"/docs", "/openapi.json", f"/v1/models?key={KEY}"}:
        for method in ("GET", "POST"):
            found = httpx.request(method, url + path, headers=encoded)
            assert found.status_code == 401
            assert KEY not in found.text


def test_each_key_opens(url: str) -> None:
    for key in (KEY, OTHER):
        head = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{url}/v1/models", headers=head).status_code == 200


def test_a_key_is_taken_out_of_every_line() -> None:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "sent %s", (f"Bearer {KEY}",), None)
    assert Redacting(configured()).filter(record)
    assert record.getMessage() == "sent Bearer [key]"
