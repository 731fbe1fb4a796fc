"""The command palette: every key of the screen and of the program, by what it does."""

from collections.abc import Callable, Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider


class KeysProvider(Provider):
    """Offers what the keys of the present screen do, so that a key need not be known."""

    def _found(self) -> Iterator[tuple[str, str, Callable[[], object]]]:
        active = self.screen.active_bindings
        for node, binding, is_enabled, _ in active.values():
            if is_enabled and binding.description and not binding.system:
                key = self.app.get_key_display(binding)
                run = partial(self.app.run_action, binding.action, node)
                yield binding.description, f"Key: {key}", run

    async def discover(self) -> Hits:
        """Yield everything, in the order of the keys."""
        for name, help_text, run in self._found():
            yield DiscoveryHit(name, run, help=help_text)

    async def search(self, query: str) -> Hits:
        """Yield what matches."""
        matcher = self.matcher(query)
        for name, help_text, run in self._found():
            if (score := matcher.match(name)) > 0:
                yield Hit(score, matcher.highlight(name), run, help=help_text)
