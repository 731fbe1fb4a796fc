"""Screens as SVG that are the same at every call."""

import re
from collections.abc import Awaitable, Callable

from textual.app import App
from textual.pilot import Pilot

SIZES = ((80, 24), (120, 40), (200, 60))
_ENOUGH, _MOST_LOOKS = 3, 100
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
        return await _settled(app, pilot)


async def _settled(app: App[None], pilot: Pilot[None]) -> str:
    """Return the picture once it stays the same: on a busy machine a layout takes several turns."""
    shown, unchanged = steady(app.export_screenshot()), 0
    for _ in range(_MOST_LOOKS):
        await pilot.pause(0.2)
        before, shown = shown, steady(app.export_screenshot())
        unchanged = unchanged + 1 if shown == before else 0
        if unchanged == _ENOUGH:
            return shown
    raise AssertionError("the picture never came to rest")
