"""What waiting requests will think: their prompts read before there is a slot for them."""

from collections.abc import Sequence

from metacog.decode.batch import read_prompts
from metacog.decode.engine import EngineSettings
from metacog.decode.opening import Opener, Opening
from metacog.decode.terms import NO_LIMIT
from metacog.model.bundle import MetacogModel
from metacog.records import Request


class Forecaster:
    """Says how long replies may think; a prompt that names its budget is not read for it."""

    def __init__(self, model: MetacogModel, settings: EngineSettings) -> None:
        self.model = model
        self.opener = Opener(model, settings.opening, settings.controller.answer_reserve)

    def think_tokens(self, requests: Sequence[Request]) -> list[int]:
        """Return the most THINK tokens of each reply, in the order of the requests."""
        unread = [request for request in requests if request.budget is None]
        opened = iter(self.openings(unread) if unread else ())
        return [
            _bounded(next(opened).budget if r.budget is None else r.budget, r) for r in requests
        ]

    def openings(self, requests: Sequence[Request]) -> list[Opening]:
        """Return how replies would start, from one pass over their prompts."""
        if self.model.reader is None:
            return self.opener.open(None, requests)
        read = read_prompts(self.model, [request.prompt for request in requests])
        return self.opener.open(read.states, requests)


def _bounded(budget: int, request: Request) -> int:
    longest = request.max_new_tokens
    return longest if budget == NO_LIMIT else min(budget, longest)
