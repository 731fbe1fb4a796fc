"""F3: a chat template reaches nothing outside its sandbox, and one that takes too much is stopped."""

import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from metacog.errors import InputError, ModelError
from metacog.model.base import load_base
from metacog.text.render import render
from metacog.text.template import require_bounded_template
from metacog.text.template_child import Asked
from metacog.text.template_process import TemplateProcess
from tests.faults.hostile import MEGABYTE, copied, held_memory, peak_memory
from tests.unit.text.tokenizers import FOREIGN_TEMPLATE, bundled

MESSAGES = [{"role": "user", "content": "Hi"}]
STARTING = 5
"""Seconds of processor time within which a child has started."""

ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ raise_exception.__globals__['os'].system('true') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ (messages|attr('__class__')).__base__ }}",
    "{{ '{0.__class__.__base__}'.format(messages).x.y }}",
    "{{ messages.append(1) }}",
    "{% set x = messages.__class__ %}{{ x.__base__ }}",
)
SLOW = (
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% set long = messages[0].content * 9999999 %}"
    "{% for i in range(9999) %}{{ long | replace('i', 'xx') | length }}{% endfor %}",
    "{% set ten = messages | length + 9 %}{{ ten ** (ten ** 8) % 7 }}",
)
"""They would take hours and little memory, some in steps that are few and long."""
LARGE = (
    "{{ ('x' * 9999) | replace('x', 'y' * 9999) | replace('y', 'z' * 9999) }}",
    "{{ ('x' * 9999).replace('x', 'y' * 9999).replace('y', 'z' * 9999) | length }}",
    "{{ (('x' * 99999) | list) | join('y' * 99999) | length }}",
    "{% set a = 'x' * 999 %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
    "{% set a = ['x'] %}" + "{% set a = a + a %}" * 60,
    "{% set n = namespace(a='x' * 999) %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
    "{% macro m(n) %}{{ caller() }}{% endmacro %}"
    "{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
    "{{ 'x' * 999 * 999 * 9999 }}",
    "{{ 'x' | center(9999999999) }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '{:9999999999}'.format(1) }}",
    "{{ 'x' * 99999999 }}",
    "{{ (messages[0].content * 999999999) | length }}",
    "{% for i in range(2000) %}{{ 'x' * 9999 }}{% endfor %}",
)
"""They would write or hold more than any prompt needs."""
HARMLESS = (
    FOREIGN_TEMPLATE,
    "{% for i in range(messages|length) %}{{ messages[i].content }}{% endfor %}",
    "{% for i in range(messages|length - 1, -1, -1) %}{{ i }}{% endfor %}",
    "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}",
    "{% generation %}x{% endgeneration %}{% for m in messages %}{% break %}{% endfor %}",
    "{{ '-' * 40 }}{% set budget = {0: 0, 16384: 1024} %}",
    "{# " + "x" * 90_000 + " #}{{ messages[0].content | replace('i', 'ello') | tojson }}",
    "{% set n = namespace(last='') %}{% for m in messages %}{% set n.last = m.role %}{% endfor %}{{ n.last }}",
)


def with_template(template: str | dict[str, str] | None) -> PreTrainedTokenizerFast:
    tokenizer = copy(bundled())
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", ESCAPES)
def test_an_escape_ends_in_a_clear_error(template: str) -> None:
    with pytest.raises((ModelError, InputError), match=r"sandbox forbids|can render, but"):
        render(with_template(template), MESSAGES)


def test_what_the_sandbox_forbids_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match=r"sandbox forbids: .*__class__.*Set another"):
        render(with_template(ESCAPES[0]), MESSAGES)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[0]['content'] + 1 }}",
        "{{ 1 / 0 }}",
        "{{ nothing.at.all }}",
        "{% for i in range(99999999) %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    ],
)
def test_a_template_that_fails_names_its_tokenizer(template: str) -> None:
    with pytest.raises(InputError, match=r"Wanted messages that the tokenizer .* can render"):
        render(with_template(template), MESSAGES)


def test_a_template_that_is_none() -> None:
    tokenizer = with_template("{% for m in messages %}")
    for use in (require_bounded_template, lambda given: render(given, MESSAGES)):
        with pytest.raises(ModelError, match="cannot be read: Unexpected end of template"):
            use(tokenizer)


@pytest.mark.parametrize("template", SLOW)
def test_a_template_that_would_take_hours_is_stopped(template: str) -> None:
    began, others = time.process_time(), time_of_children()
    with pytest.raises(ModelError, match="was stopped: it takes more than 2 seconds"):
        render(with_template(template), MESSAGES)
    assert time.process_time() - began < 1
    assert time_of_children() - others < 2 + STARTING


@pytest.mark.parametrize("template", LARGE)
def test_a_template_that_writes_or_holds_without_end_is_stopped(template: str) -> None:
    before, began = held_memory(), time.process_time()
    with pytest.raises(ModelError, match=r"was stopped: it (takes|writes) more than"):
        render(with_template(template), MESSAGES)
    assert time.process_time() - began < 1
    assert peak_memory() - before < 50 * MEGABYTE


def time_of_children() -> float:
    """Processor time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_after_one_was_stopped_others_are_rendered() -> None:
    ids = render(with_template(FOREIGN_TEMPLATE), MESSAGES)
    with pytest.raises(ModelError, match="was stopped"):
        render(with_template(SLOW[0]), MESSAGES)
    assert render(with_template(FOREIGN_TEMPLATE), MESSAGES) == ids


def test_a_child_that_was_killed_is_followed_by_another() -> None:
    renderer = TemplateProcess()
    asked = Asked(template="{{ 1 + 2 }}", messages=MESSAGES, special={}, most_letters=9)
    assert renderer.answer(asked) == {"text": "3"}
    for _ in range(2):
        assert renderer.process_id is not None
        os.kill(renderer.process_id, signal.SIGKILL)
        said = renderer.answer(asked)
        assert said == {"text": "3"} or "ended with -9" in said["message"]
        assert renderer.answer(asked) == {"text": "3"}
    renderer.end()
    assert renderer.process_id is None


def test_what_is_rendered_at_once_is_not_mixed_up() -> None:
    tokenizer = with_template(FOREIGN_TEMPLATE)
    messages = [[{"role": "user", "content": f"What is {number}?"}] for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda given: render(tokenizer, given), messages))
    assert found == [render(tokenizer, given) for given in messages]


def test_a_long_conversation_is_no_fault_of_its_template() -> None:
    turns = [{"role": role, "content": "word " * 2000} for role in ("user", "assistant")] * 100
    ids = render(with_template(bundled().chat_template), [*turns, *MESSAGES])
    assert len(ids) > 100_000


@pytest.mark.parametrize("template", HARMLESS)
def test_usual_templates_are_rendered_as_by_transformers(template: str) -> None:
    for given in (template, {"default": template, "tool_use": SLOW[0]}):
        tokenizer = with_template(given)
        require_bounded_template(tokenizer)
        ids = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
        assert render(tokenizer, MESSAGES) == [*ids, tokenizer.convert_tokens_to_ids("<think>")]


def test_no_template_is_for_rendering_to_refuse() -> None:
    require_bounded_template(with_template(None))
    with pytest.raises(ModelError, match="without one"):
        render(with_template(None), MESSAGES)


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/x.jinja"])
def test_a_model_is_not_loaded_with_one(tiny_directory: Path, tmp_path: Path, name: str) -> None:
    hostile = copied(tiny_directory, tmp_path)
    (hostile / name).parent.mkdir(exist_ok=True)
    (hostile / name).write_text(LARGE[0], encoding="utf-8")
    if name == "chat_template.jinja":
        with pytest.raises(ModelError, match="was stopped"):
            load_base(hostile)
    (hostile / name).write_text("x" * 100_001, encoding="utf-8")
    with pytest.raises(ModelError, match=r"at most 100000 bytes in .*\.jinja, got 100001"):
        load_base(hostile)
