"""Bounds of a YAML document, checked while it is read: what it spells out to must stay small."""

import yaml

MOST_BYTES = 64 * 1024
_MOST_DEPTH = 32
_MOST_NODES = 5_000


def require_bounded(content: str | bytes) -> None:
    """Refuse a document that is too long, too deep, or grows when its aliases are written out.

    The events of a document come one by one, so nothing is built before it is known to be small.

    Raises:
        yaml.YAMLError: If it is one of these, or is no YAML.
    """
    if len(content) > MOST_BYTES:
        raise yaml.YAMLError(f"it is longer than {MOST_BYTES} bytes")
    nodes, sizes = 0, dict[str, int]()
    opened: list[tuple[str | None, int]] = []
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            nodes += _size_of(event, sizes)
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, nodes))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            nodes += 1
            sizes.update({} if anchor is None else {anchor: nodes - before})
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            sizes.update({} if event.anchor is None else {event.anchor: 1})
        if len(opened) > _MOST_DEPTH or nodes > _MOST_NODES:
            raise yaml.YAMLError(
                f"it is nested deeper than {_MOST_DEPTH} or spells out to more than "
                f"{_MOST_NODES} values"
            )


def _size_of(alias: yaml.AliasEvent, sizes: dict[str, int]) -> int:
    """Return how many values an alias stands for."""
    if alias.anchor not in sizes:
        raise yaml.YAMLError(f"the alias *{alias.anchor} stands for nothing that came before it")
    return sizes[alias.anchor]
