"""metacog: a small language model that thinks, and knows how long to.

from metacog import load

model = load("nano")
replies = model.generate(["What is 3 + 4?", "What is 15 + 6?"], budget=["auto", 16])
answers = [reply.answer for reply in replies]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metacog.decode.answering import Reply, ThinkingModel, load
    from metacog.decode.processor import BudgetProcessor

__version__ = "0.1.0"
__all__ = ["BudgetProcessor", "Reply", "ThinkingModel", "__version__", "load"]

_HOMES = {
    "BudgetProcessor": "metacog.decode.processor",
    "Reply": "metacog.decode.answering",
    "ThinkingModel": "metacog.decode.answering",
    "load": "metacog.decode.answering",
}


def __getattr__(name: str) -> Any:
    """Import the library's face when it is first asked for: the command line starts without torch."""
    if name in _HOMES:
        return vars(import_module(_HOMES[name]))[name]
    raise AttributeError(f"module 'metacog' has no attribute {name!r}")
