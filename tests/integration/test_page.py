"""The built-in page in a real browser: a conversation, at the width of a phone and of a desk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from metacog.model.bundle import load_model
from tests.integration.chromium import PROGRAM, Page, browser
from tests.unit.serve.serving import configured, served

BITS = "How many 1 bits are there in the binary representation of the number 300?"
LAST = "[...document.querySelectorAll('article')].at(-1)"

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # allowed: a browser is no dependency
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    model = load_model("nano")
    with (
        served(model, configured(keys=[], name="tiny")) as url,
        browser(tmp_path_factory.mktemp("profile")) as found,
    ):
        found.does("Page.enable")
        found.does("Page.navigate", url=url)
        found.until("document.readyState === 'complete'")
        found.until("document.getElementById('model').textContent === 'tiny'")
        yield found


def ask(page: Page, question: str, mode: str = "auto") -> str:
    """Ask as a person does and return the answer."""
    page.value(f"document.getElementById('prompt').value = {question!r}")
    page.value(f"document.getElementById('mode').value = {mode!r}")
    page.value("document.getElementById('ask').requestSubmit()")
    page.until(f"{LAST}?.querySelector('.asked').textContent === {question!r}")
    page.until(f"{LAST}.querySelector('.reason').textContent")
    return str(page.value(f"{LAST}.querySelector('.answer').textContent")).strip()


def part(page: Page, name: str) -> str:
    return str(page.value(f"{LAST}.querySelector({name!r}).textContent"))


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_a_conversation(page: Page, width: int, height: int, tmp_path: Path) -> None:
    page.resize(width, height)
    page.value("document.getElementById('clear').click()")
    assert ask(page, BITS) == "4"
    assert "outline" in part(page, ".plan")
    assert "%" in part(page, ".confidence")
    assert "<plan>" in part(page, ".thinking pre")
    assert page.value(f"{LAST}.querySelectorAll('.bars > *').length") >= 6
    assert ask(page, "<b>bold</b> <script>1</script>", "0")
    assert page.value("document.querySelectorAll('article').length") == 2
    assert page.value("document.querySelector('.asked b')") is None
    assert page.value("document.documentElement.scrollWidth") <= width
    picture = Path(os.environ.get("METACOG_TEST_PICTURES", tmp_path)) / f"page-{width}.png"
    page.picture(picture)
    assert picture.stat().st_size > 10_000
