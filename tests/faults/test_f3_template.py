"""F3: a chat template reaches nothing outside its sandbox, and one that would never end is refused."""

import sys
import time
from copy import copy
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from metacog.errors import InputError, ModelError
from metacog.model.base import load_base
from metacog.text.render import render
from metacog.text.template import require_bounded_template
from tests.faults.hostile import copied
from tests.unit.text.tokenizers import FOREIGN_TEMPLATE, bundled

MESSAGES = [{"role": "user", "content": "Hi"}]

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
ENDLESS = (
    "{% for i in range(9999999) %}x{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for i in range(9) %}{% if i %}{% for j in range(9) | list %}x{% endfor %}{% endif %}{% endfor %}",
    "{% set r = range(99999) %}{% for i in r %}{% for j in r %}x{% endfor %}{% endfor %}",
    "{% set f = range %}{% for i in f(99999) %}{% for j in f(9) %}x{% endfor %}{% endfor %}",
    "{{ 'x' * 100000000 }}",
    "{{ 'x' * 999 * 999 * 999 }}",
    "{{ 'x' * messages|length }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ lipsum(n=100000) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '{:999999999}'.format(1) }}",
    "{# " + "x" * 100_000 + " #}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{% for m in messages %}",
)
RUNNING_ON = (
    "{% macro m() %}{% for i in range(999) %}x{% endfor %}{% endmacro %}"
    "{% for i in range(99999) %}{{ m() }}{% endfor %}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% set a = 'x' * 999 %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
    "{% set many = ('x' * 999) | list %}"
    "{% for i in many %}{% for j in many %}{% endfor %}{% endfor %}",
    "{% for i in range(20000) %}{{ 'x' * 999 }}{% endfor %}",
)
HARMLESS = (
    FOREIGN_TEMPLATE,
    "{% for i in range(messages|length) %}{{ messages[i].content }}{% endfor %}",
    "{% for i in range(messages|length - 1, -1, -1) %}{{ i }}{% endfor %}",
    "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}",
    "{% generation %}x{% endgeneration %}{% for m in messages %}{% break %}{% endfor %}",
    "{{ '-' * 40 }}{% set budget = {0: 0, 16384: 1024} %}",
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
        "{% for m in messages %}",
    ],
)
def test_a_template_that_fails_names_its_tokenizer(template: str) -> None:
    with pytest.raises(InputError, match=r"Wanted messages that the tokenizer .* can render"):
        render(with_template(template), MESSAGES)


@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_that_would_not_end_is_refused_at_once(template: str) -> None:
    began = time.process_time()
    with pytest.raises(ModelError, match="chat template that ends soon"):
        require_bounded_template(with_template(template))
    assert time.process_time() - began < 1


@pytest.mark.parametrize("template", RUNNING_ON)
def test_a_template_that_runs_on_is_stopped(template: str) -> None:
    require_bounded_template(with_template(template))
    before, began = sys.gettrace(), time.process_time()
    with pytest.raises(ModelError, match="was stopped after"):
        render(with_template(template), MESSAGES)
    assert time.process_time() - began < 10
    assert sys.gettrace() is before


def test_a_long_conversation_is_no_fault_of_its_template() -> None:
    turns = [{"role": role, "content": "word " * 2000} for role in ("user", "assistant")] * 100
    ids = render(with_template(bundled().chat_template), [*turns, *MESSAGES])
    assert len(ids) > 100_000


@pytest.mark.parametrize("template", HARMLESS)
def test_usual_templates_pass(template: str) -> None:
    require_bounded_template(with_template(template))
    require_bounded_template(with_template({"default": template, "tool_use": template}))


def test_no_template_is_for_rendering_to_refuse() -> None:
    require_bounded_template(with_template(None))
    with pytest.raises(ModelError, match="without one"):
        render(with_template(None), MESSAGES)


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/x.jinja"])
def test_a_model_is_not_loaded_with_one(tiny_directory: Path, tmp_path: Path, name: str) -> None:
    hostile = copied(tiny_directory, tmp_path)
    (hostile / name).parent.mkdir(exist_ok=True)
    (hostile / name).write_text("ok\n" + ENDLESS[1], encoding="utf-8")
    with pytest.raises(ModelError, match="nests loops over ranges in line 2"):
        load_base(hostile)
    (hostile / name).write_text("x" * 100_001, encoding="utf-8")
    with pytest.raises(ModelError, match=r"at most 100000 bytes in .*\.jinja, got 100001"):
        load_base(hostile)
