"""What the renderer of strangers' templates answers, faults by their kind."""

import pytest

from metacog.text.template_child import Asked, answer


def asked(template: str, most_letters: int = 100) -> Asked:
    messages = [{"role": "user", "content": "Hi"}]
    return Asked(
        template=template, messages=messages, special={"bos_token": "^"}, most_letters=most_letters
    )


def test_a_text_comes_back() -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
    assert answer(asked(template)) == {"text": "^user: Hi"}
    assert answer(asked("{% if add_generation_prompt %}asks{% endif %}")) == {"text": "asks"}


def test_the_length_is_bounded_to_the_letter() -> None:
    assert answer(asked("{{ 'x' * 9 }}", 9)) == {"text": "x" * 9}
    said = answer(asked("{{ 'x' * 9 }}", 8))
    assert said == {"fault": "stopped", "message": "it writes more than 8 letters"}


@pytest.mark.parametrize(
    ("template", "fault", "message"),
    [
        ("{{ ''.__class__ }}{{ ''.__class__.__mro__ }}", "forbidden", "__class__"),
        ("{% for m in messages %}", "unreadable", "Unexpected end of template"),
        ("{{ raise_exception('roles') }}", "failed", "roles"),
        ("{{ 1 // 0 }}", "failed", "zero"),
        ("{{ raise_exception('long' * 999) }}", "failed", "longlong"),
    ],
)
def test_a_fault_is_told_by_its_kind(template: str, fault: str, message: str) -> None:
    said = answer(asked(template))
    assert said["fault"] == fault
    assert message in said["message"]
    assert len(said["message"]) <= 500
