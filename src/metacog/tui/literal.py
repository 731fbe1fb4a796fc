"""Text that comes from a model or a file, made safe to show: nothing in it acts on the terminal."""

_PICTURES = 0x2400
"""Where Unicode keeps the pictures of control characters, in their order."""
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"

_SHOWN = (
    {code: chr(_PICTURES + code) for code in range(0x20) if chr(code) not in "\n\t"}
    | {ord("\t"): "    ", 0x7F: "\N{SYMBOL FOR DELETE}"}
    | dict.fromkeys(range(0x80, 0xA0), _UNKNOWN)
    | dict.fromkeys(range(0x200E, 0x2010), _UNKNOWN)
    | dict.fromkeys(range(0x202A, 0x202F), _UNKNOWN)
    | dict.fromkeys(range(0x2066, 0x206A), _UNKNOWN)
    | dict.fromkeys(range(0xD800, 0xE000), _UNKNOWN)
)


def literal(text: str) -> str:
    """Return text with every control character as its picture, so that an escape shows as `␛[31m`.

    Line ends stay; what turns the direction of writing, and half of a surrogate pair, become `�`.
    """
    return text.translate(_SHOWN)


def one_line(text: str, width: int) -> str:
    """Return text as one literal line, its end left out where it is longer than `width`."""
    line = literal(" ".join(text[: 8 * max(width, 1)].split()))
    return line if len(line) <= width else f"{line[: max(width - 1, 0)]}…"
