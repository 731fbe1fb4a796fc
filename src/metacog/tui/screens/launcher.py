"""The launcher: a form made from the schema, from which a run is started."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from metacog.config import RunConfig, cautions, dump
from metacog.config.show import inline
from metacog.errors import ConfigError, MetacogError
from metacog.telemetry.rundir import RunDir
from metacog.tui.form import Field, Form
from metacog.tui.launch import new_run, start
from metacog.tui.literal import one_line
from metacog.tui.screens.boot import BootScreen
from metacog.tui.screens.choose import ChooseScreen, TextScreen
from metacog.tui.screens.dashboard import Dashboard
from metacog.tui.screens.pick import PickScreen
from metacog.tui.theme import BRIGHT, DIM, FAIL, FAINT, PLAIN, WARN
from metacog.tui.widgets.lines import join, text

RECIPES = Path("recipes")


class LauncherScreen(Screen[None]):
    """Shows every key by section; what is wrong stands at its key.

    Args:
        runs: Directory in which new runs are made.
        recipes: Directory of presets.
        filled: The configuration of a run to begin from; by default the defaults.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start"),
        Binding("enter", "edit", "Change"),
        Binding("slash", "search", "Search", key_display="/"),
        Binding("r", "reset", "Reset"),
        Binding("R", "reset_section", "Section", key_display="R"),
        Binding("ctrl+r", "reset_all", "All", key_display="^R"),
        Binding("p", "presets", "Presets"),
        Binding("f", "pick", "Files"),
        Binding("y", "preview", "YAML"),
        Binding("c", "command", "Shell"),
        Binding("escape", "back", "Back"),
    ]
    CSS = """
    LauncherScreen { background: $background; }
    #keys { height: 1fr; border: round $foreground 25%; background: $background; }
    #keys:focus { border: round $accent 80%; }
    #about { height: 5; padding: 0 2; background: $surface; }
    #typed { display: none; border: round $accent; background: $surface; height: 3; }
    #typed.-open { display: block; }
    """

    def __init__(
        self, runs: Path, recipes: Path = RECIPES, *, filled: RunConfig | None = None
    ) -> None:
        super().__init__()
        self.form = Form()
        if filled is not None:
            self.form.take_run(filled)
        self._runs, self._recipes = runs, recipes
        self._sought = ""
        self._edited: Field | None = None
        """The field that the input line is for, or None where it is for searching."""
        self._rows: list[Field | None] = []

    def compose(self) -> Iterator[Widget]:
        """Lay out keys, explanation and input line."""
        yield OptionList(id="keys", markup=False)
        yield Static(id="about")
        yield Input(id="typed")
        yield Footer()

    def on_mount(self) -> None:
        """Show the defaults."""
        self._list()

    @property
    def _keys(self) -> OptionList:
        return self.query_one("#keys", OptionList)

    def chosen(self) -> Field | None:
        """Return the field under the cursor."""
        place = self._keys.highlighted
        return None if place is None or place >= len(self._rows) else self._rows[place]

    def _list(self) -> None:
        """Write every row anew, and stay at the same key."""
        before = self.chosen()
        found = [f for f in self.form.fields if self._sought in f"{f.key} {f.help}".lower()]
        self._rows, options, section = [], [], ""
        for field in found:
            if field.section != section:
                section = field.section
                options.append(Option(text(section.upper(), PLAIN), disabled=True))
                self._rows.append(None)
            options.append(Option(self._row(field)))
            self._rows.append(field)
        self._keys.clear_options()
        self._keys.add_options(options)
        keys = [field.key if field else None for field in self._rows]
        same = keys.index(before.key) if before and before.key in keys else 1
        self._keys.highlighted = same if options else None
        self._title()
        self._explain()

    def _title(self) -> None:
        wrong, changed = len(self.form.errors), len(self.form.edits)
        state = f"✖ {wrong} wrong" if wrong else "● valid"
        sought = f" · search: {self._sought}" if self._sought else ""
        self._keys.border_title = one_line(f"NEW RUN · {changed} changed · {state}{sought}", 60)

    def _row(self, field: Field) -> Content:
        error = self.form.errors.get(field.key)
        is_changed = self.form.is_changed(field)
        mark = text("✖ ", FAIL) if error else text("* " if is_changed else "  ", WARN)
        value = one_line(self.form.value(field), 48)
        parts = [mark, text(f"{field.key:<38} ", DIM), text(value, BRIGHT if is_changed else PLAIN)]
        return Content("").join([*parts, text(f"  {one_line(error, 60)}" if error else "", FAIL)])

    def on_option_list_option_highlighted(self) -> None:
        """Explain the key under the cursor."""
        self._explain()

    def _explain(self) -> None:
        field, about = self.chosen(), self.query_one("#about", Static)
        strange = {
            k: e for k, e in self.form.errors.items() if k not in {f.key for f in self.form.fields}
        }
        lines = [text(f"✖ {error}", FAIL) for error in strange.values()]
        if field is not None:
            error = self.form.errors.get(field.key)
            lines += [text(f"✖ {error}", FAIL)] if error else []
            lines.append(text(field.help, PLAIN))
            allowed = f"   one of: {', '.join(field.choices)}" if field.choices else ""
            lines.append(text(f"default: {field.default or '--'}{allowed}", FAINT))
        if self.form.config is not None:
            lines += [text(f"▲ {caution}", WARN) for caution in cautions(self.form.config)]
        about.update(join(lines))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Change the key that was chosen."""
        event.stop()
        self.action_edit()

    def action_edit(self) -> None:
        """Take the next choice, or ask for a value."""
        field = self.chosen()
        if field is None:
            return
        if field.choices:
            now = self.form.value(field)
            place = field.choices.index(now) if now in field.choices else -1
            self.form.put(field.key, field.choices[(place + 1) % len(field.choices)])
            self._drop_if_default(field)
            self._list()
            return
        self._ask(field, field.key, self.form.value(field))

    def _drop_if_default(self, field: Field) -> None:
        if not self.form.is_changed(field):
            self.form.reset(field.key)

    def _ask(self, field: Field | None, title: str, value: str) -> None:
        self._edited = field
        line = self.query_one("#typed", Input)
        line.border_title, line.value = title, value
        line.add_class("-open")
        line.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take what was typed."""
        event.stop()
        if self._edited is None:
            self._sought = event.value.strip().lower()
        else:
            self.form.put(self._edited.key, event.value)
            self._drop_if_default(self._edited)
        self._close_line()
        self._list()

    def _close_line(self) -> None:
        self.query_one("#typed", Input).remove_class("-open")
        self._keys.focus()

    def action_search(self) -> None:
        """Ask for a part of a key or its explanation."""
        self._ask(None, "SEARCH", self._sought)

    def action_reset(self) -> None:
        """Return the key under the cursor to its default."""
        if (field := self.chosen()) is not None:
            self.form.reset(field.key)
            self._list()

    def action_reset_section(self) -> None:
        """Return the section under the cursor to its defaults."""
        if (field := self.chosen()) is not None:
            self.form.reset(f"{field.section}.")
            self._list()

    def action_reset_all(self) -> None:
        """Return every key to its default."""
        self.form.reset()
        self._list()

    def action_presets(self) -> None:
        """Choose a recipe to fill the form from."""
        names = sorted(path.name for path in self._recipes.glob("*.yaml"))
        self.app.push_screen(ChooseScreen("PRESETS", names), self._preset)

    def _preset(self, name: str | None) -> None:
        if name is None:
            return
        try:
            self.form.take(self._recipes / name)
        except ConfigError as error:
            self._tell(error)
        self._list()

    def _tell(self, error: MetacogError) -> None:
        self.app.notify(str(error), title="Not done", severity="error", markup=False)

    def action_preview(self) -> None:
        """Show the YAML that would be written, or what is wrong."""
        config = self.form.config
        said = "\n".join(self.form.errors.values()) if config is None else dump(config)
        self.app.push_screen(TextScreen("YAML" if config else "WRONG", said))

    def action_command(self) -> None:
        """Show shell lines that train the same, or what is wrong."""
        if self.form.config is None:
            self.action_preview()
            return
        self.app.push_screen(TextScreen("COMMAND", self.form.command()))

    def action_pick(self) -> None:
        """Choose a file or directory for the key under the cursor."""
        field = self.chosen()
        if field is None or not field.names_a_place:
            self.app.notify("The key under the cursor names no file.", markup=False)
            return
        begin = Path(self.form.edits.get(field.key, "."))
        self.app.push_screen(PickScreen(begin), partial(self._picked, field))

    def _picked(self, field: Field, place: Path | None) -> None:
        if place is not None:
            self.form.put(field.key, inline(_nearer(place)))
            self._list()

    def action_start(self) -> None:
        """Check what the form says, and train it where all is right and the start confirmed."""
        if self.form.config is None:
            self.action_preview()
            return
        config = self.form.config.model_copy(deep=True)
        self.app.push_screen(BootScreen(config, self._runs), partial(self._checked, config))

    def _checked(self, config: RunConfig, is_wanted: bool | None) -> None:
        if is_wanted:
            self._start(config)

    @work(thread=True, exclusive=True, group="start")
    def _start(self, config: RunConfig) -> None:
        try:
            run = new_run(config, self._runs)
            start(run)
        except MetacogError as error:
            self.app.call_from_thread(self._tell, error)
            return
        self.app.call_from_thread(self._started, run)

    def _started(self, run: RunDir) -> None:
        self.form.reset()
        self._list()
        self.app.push_screen(Dashboard(run))

    def action_back(self) -> None:
        """Close the input line, end the search, or go back."""
        if self.query_one("#typed", Input).has_class("-open"):
            self._close_line()
        elif self._sought:
            self._sought = ""
            self._list()
        else:
            self.app.pop_screen()


def _nearer(place: Path) -> str:
    """Return a place as seen from here where it lies below, else whole."""
    here = Path.cwd()
    return str(place.relative_to(here) if place.is_relative_to(here) else place)
