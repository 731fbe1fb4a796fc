"""Renders strangers' chat templates in a process of its own, which ends when one takes too much.

Run by path, without the package: `python -P template_child.py FD`. It reads a JSON object at a time
from the socket FD and answers with one. Time is processor time, and the system takes it: a template
cannot catch it, nor hide in one long call. What is left of memory is limited after everything is
imported; files cannot be written.
"""

import json
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any, TypedDict

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.exceptions import SecurityError
from transformers.utils.chat_template_utils import render_jinja_template

MOST_SECONDS = 2.0
"""Processor time of one rendering, the template's compilation included."""
MOST_MEMORY = 2**30
"""Bytes of address space, of which about 190 MB are taken from the start."""

FAILURES = (TemplateError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
"""What a template raises by itself, or where it does not know what to do with the messages."""


class Asked(TypedDict):
    """What is to be rendered."""

    template: str
    messages: list[dict[str, str]]
    special: dict[str, Any]
    """Names of special tokens, as templates know them."""
    most_letters: int
    """Of the text that comes out."""


def written(asked: Asked) -> str:
    """Return what a template writes for messages that wait for a reply.

    Raises:
        One of `FAILURES`, or SyntaxError: if it cannot be read, or not rendered.
    """
    found: Any = render_jinja_template(
        conversations=[asked["messages"]],
        chat_template=asked["template"],
        add_generation_prompt=True,
        **asked["special"],
    )
    texts, _ = found
    return str(texts[0])


def answer(asked: Asked) -> dict[str, str]:
    """Return the text, or what kind of fault it was and what there is to say of it."""
    try:
        text = written(asked)
    except SecurityError as error:
        return _fault("forbidden", error)
    except (TemplateSyntaxError, SyntaxError) as error:
        return _fault("unreadable", error)
    except FAILURES as error:
        return _fault("failed", error)
    except MemoryError:
        return {"fault": "stopped", "message": f"it takes more than {MOST_MEMORY} bytes of memory"}
    if len(text) > asked["most_letters"]:
        return {
            "fault": "stopped",
            "message": f"it writes more than {asked['most_letters']} letters",
        }
    return {"text": text}


def _fault(kind: str, error: Exception) -> dict[str, str]:
    return {"fault": kind, "message": str(error)[:500]}


def serve(link: Connection) -> None:
    """Answer until the other side is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    for name in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(name, (0, 0))
    while True:
        try:
            asked = json.loads(link.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        said = answer(asked)
        signal.setitimer(signal.ITIMER_PROF, 0)
        link.send_bytes(json.dumps(said).encode())


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
