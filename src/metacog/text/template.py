"""Chat templates come with models: one that could run for ever or write without end is refused.

transformers renders them in jinja's sandbox, which keeps them from Python's attributes and ends a
`range` above 100,000, but bounds neither time nor memory. So the source is looked at, before it runs.
"""

import re
from functools import lru_cache

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from transformers import PreTrainedTokenizerBase

from metacog.errors import ModelError

_MOST_BYTES = 100_000
_LARGEST_NUMBER = 100_000
_LARGEST_FACTOR = 1_000
_WIDE_FORMAT = re.compile(r"%[^%a-zA-Z]*\d{5}|\{[^{}]*:[^{}]*\d{5}")


class _Generation(Extension):
    """The tag of transformers' own that marks what an assistant says."""

    tags = {"generation"}  # noqa: RUF012 (jinja declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands inside the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def require_bounded_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer whose chat template could hang or fill memory.

    This reads the source, so it cannot catch all. Macros, loops over lists and text that doubles are
    counted while they run (`text.limits`). What still passes both: one filter that makes much of
    little, such as `replace` of every letter by a long text, and text that grows inside a namespace
    or a macro's own list.

    Raises:
        ModelError: naming the line and what stands there.
    """
    given = tokenizer.chat_template
    templates = given if isinstance(given, dict) else {"default": given}
    for name, source in templates.items():
        fault = None if source is None else _fault_of(source)
        if fault is not None:
            raise ModelError(
                f"Wanted a chat template that ends soon, but template {name!r} of the tokenizer "
                f"{tokenizer.name_or_path!r} {fault}. Set another tokenizer.chat_template and save "
                "it again."
            )


@lru_cache(maxsize=32)
def _fault_of(source: str) -> str | None:
    if len(source.encode()) > _MOST_BYTES:
        return f"is longer than {_MOST_BYTES} bytes"
    try:
        tree = Environment(extensions=[loopcontrols, _Generation], autoescape=True).parse(source)
        return _loop_fault(tree) or _number_fault(tree)
    except (TemplateSyntaxError, RecursionError) as error:
        return f"cannot be read: {error}"


def _loop_fault(tree: nodes.Template) -> str | None:
    """Say which loop could run for long: counted loops may not nest, nor their range be renamed."""
    loops = [loop for loop in tree.find_all(nodes.For) if _ranges(loop.iter)]
    if len({id(name) for loop in loops for name in _ranges(loop.iter)}) < len(_ranges(tree)):
        return "uses `range` elsewhere than as what a loop runs over"
    for loop in loops:
        if any(_ranges(part) for part in loop.body):
            return f"nests loops over ranges in line {loop.lineno}"
    return None


def _ranges(node: nodes.Node) -> list[nodes.Name]:
    """Return where `range` is named at and below a node."""
    named = [node] if isinstance(node, nodes.Name) else []
    return [name for name in (*named, *node.find_all(nodes.Name)) if name.name == "range"]


def _number_fault(tree: nodes.Template) -> str | None:
    """Say where a large number stands or is made."""
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, int | float) and constant.value > _LARGEST_NUMBER:
            return f"holds a number above {_LARGEST_NUMBER} in line {constant.lineno}"
        if isinstance(constant.value, str) and _WIDE_FORMAT.search(constant.value):
            return f"formats with a width of five digits or more in line {constant.lineno}"
    for operation in tree.find_all((nodes.Pow, nodes.Mul)):
        if isinstance(operation, nodes.Pow) or not _is_small(operation):
            return (
                f"raises to a power or multiplies by more than a number up to {_LARGEST_FACTOR} in "
                f"line {operation.lineno}"
            )
    for name in tree.find_all(nodes.Name):
        if name.name == "lipsum":
            return f"makes text up with `lipsum` in line {name.lineno}"
    return None


def _is_small(product: nodes.BinExpr) -> bool:
    """Say whether a product has a small literal factor and stands over no other product."""
    sides = (product.left, product.right)
    numbers = [p.value for p in sides if isinstance(p, nodes.Const) and isinstance(p.value, int)]
    alone = next(product.find_all(nodes.Mul), None) is None
    return alone and bool(numbers) and max(numbers) <= _LARGEST_FACTOR
