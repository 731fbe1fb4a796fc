"""Screens as SVG that are the same at every call."""

import re
from collections.abc import Awaitable, Callable

from textual.app import App
from textual.pilot import Pilot

SIZES = ((80, 24), (120, 40), (200, 60))
Drive = Callable[[Pilot[None]], Awaitable[None]]


def steady(picture: str) -> str:
    """Return an SVG without what differs between two calls: the names of its classes, and clocks."""
    picture = re.sub(r"terminal-\d+-", "terminal-", picture)
    picture = re.sub(r"\d\d:\d\d:\d\d", "00:00:00", picture)
    picture = re.sub(r"last&#160;event&#160;[^<]*?ago", "last&#160;event&#160;--", picture)
    return "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


async def picture_of(app: App[None], size: tuple[int, int], drive: Drive) -> str:
    """Return the picture of an app at a size, after it was driven."""
    async with app.run_test(size=size) as pilot:
        await drive(pilot)
        return steady(app.export_screenshot())
