"""Where a server listens, and where it says so."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from metacog.cli.main import app as metacog
from metacog.config.serving import ServingConfig, load_serving, with_options
from metacog.errors import ConfigError
from metacog.serve.run import server_of


@contextlib.contextmanager
def telling(config: ServingConfig) -> Iterator[str]:
    """Yield what a server told of its address, for as long as it runs."""
    app, told = FastAPI(), list[str]()
    server = server_of(app, config, told.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield told[0]
    finally:
        server.should_exit = True
        thread.join()


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


HOSTS = [
    ("127.0.0.1", "http://127.0.0.1:"),
    pytest.param(
        "::1", "http://[::1]:", marks=pytest.mark.skipif(not has_ipv6(), reason="wants IPv6")
    ),
]


@pytest.mark.parametrize(("host", "begins"), HOSTS)
def test_a_free_port_is_told_once_it_is_known(host: str, begins: str) -> None:
    with telling(with_options(ServingConfig(), {"host": host, "port": 0})) as told:
        assert told.startswith(begins)
        assert httpx.get(f"{told}nothing").status_code == 404


def test_options_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "serving.yaml"
    path.write_text("host: 0.0.0.0\nport: 9000\nbatch: {rows: 3, queue: 5}\nkeys: [one]\n")
    config = load_serving(path, ["batch.context=99"])
    found = with_options(config, {"host": "::", "port": None, "keys": ["two"]}, {"queue": 0})
    assert (found.host, found.port) == ("::", 9000)
    assert (found.batch.rows, found.batch.queue, found.batch.context) == (3, 0, 99)
    assert [key.get_secret_value() for key in found.keys] == ["two"]
    kept = with_options(config, {"keys": None})
    assert kept == config


@pytest.mark.parametrize("top", [{"host": ""}, {"port": 70_000}, {"keys": [""]}])
def test_an_option_out_of_its_bounds_is_refused(top: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="the command line"):
        with_options(ServingConfig(), top)


@pytest.mark.parametrize(
    ("verb", "wanted"),
    [
        (["serve", "no-such-model"], "no-such-model"),
        (["plan-proxy", "nano", "--upstream", "ftp://x"], "http://"),
    ],
)
def test_the_verbs_take_an_address_of_ipv6(verb: list[str], wanted: str) -> None:
    found = CliRunner().invoke(metacog, [*verb, "--host", "::", "--port", "0"])
    assert found.exit_code == 2
    assert wanted in found.stderr
