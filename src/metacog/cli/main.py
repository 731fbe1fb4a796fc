"""`metacog`: the verbs, and the one place that turns an error into a message and an exit code.

Data goes to stdout and narration to stderr. Exit codes: 0 done, 1 failed, 2 bad configuration or
input, 130 stopped.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from metacog import __version__
from metacog.cli import (
    bench,
    calibrate,
    chat,
    check,
    cockpit,
    config,
    demo,
    doctor,
    evaluate,
    generate,
    inspect,
    observe,
    proxy,
    report,
    serve,
    train,
)
from metacog.errors import EXIT_STOPPED, MetacogError


class ErrorBoundary(TyperGroup):
    """Shows an error of ours as its message; any other error keeps its traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read the arguments; none at all opens the cockpit, or asks for help without a terminal."""
        alone = ["cockpit"] if cockpit.is_terminal() else ["--help"]
        return super().parse_args(ctx, args or alone)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen verb."""
        try:
            return super().invoke(ctx)
        except MetacogError as error:
            typer.echo(f"metacog: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            typer.echo("metacog: stopped.", err=True)
            raise typer.Exit(EXIT_STOPPED) from None


def _print_version(is_wanted: bool) -> bool:
    if is_wanted:
        typer.echo(__version__)
        raise typer.Exit
    return is_wanted


app = typer.Typer(
    name="metacog",
    cls=ErrorBoundary,
    help="A small language model that thinks, and knows how long to.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Every verb, in the order of the help text. A verb's module imports torch inside its function.
app.command(name="train")(train.train)
app.command(name="preflight")(check.preflight)
app.command(name="watch")(cockpit.watch)
app.command(name="attach")(cockpit.attach)
app.command(name="stop")(cockpit.stop)
app.command(name="cockpit")(cockpit.cockpit)
app.command(name="eval")(evaluate.evaluate)
app.command(name="calibrate")(calibrate.calibrate)
app.command(name="report")(report.report)
app.command(name="generate")(generate.generate)
app.command(name="observe")(observe.observe)
app.command(name="inspect")(inspect.inspect)
app.command(name="serve")(serve.serve)
app.command(name="plan-proxy")(proxy.plan_proxy)
app.command(name="chat")(chat.chat)
app.add_typer(config.app, name="config")
app.add_typer(bench.app, name="bench")
app.command(name="demo")(demo.demo)
app.command(name="doctor")(doctor.doctor)


@app.callback()
def metacog(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A small language model that thinks, and knows how long to."""
