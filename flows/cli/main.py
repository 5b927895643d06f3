"""The command `iml`: groups of commands, and how an expected failure leaves the program.

Imports here stay light, so that help answers at once.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from components.core.errors import InterruptError, exit_on_error
from flows.cli import annotate, clean, dataset, lineage, model, predict, run, serve, stack, weights
from flows.settings import configure


class _Commands(typer.core.TyperGroup):
    """The commands, of which each ends with one line on Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptError(
                "stopped by Ctrl-C", hint="run the same command again to continue"
            ) from None


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)
for _command in (
    run.run,
    predict.predict,
    predict.score,
    serve.serve,
    predict.evaluate,
    annotate.annotate,
    lineage.audit,
    lineage.replay,
    run.drift,
    clean.clean,
):
    app.command()(_command)
app.add_typer(dataset.app, name="dataset")
app.add_typer(weights.teacher, name="teacher")
app.add_typer(weights.student, name="student")
app.add_typer(model.app, name="model")
app.add_typer(lineage.app, name="lineage")
app.add_typer(stack.app, name="stack")


def _show_version(wanted: bool) -> None:
    if wanted:
        from components.serving.origin import program

        typer.echo(program())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the program's version.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """BoxPromptIML: coarse boxes to a registered, gated, auditable localization model."""


def main() -> None:
    """Entry point of the command line."""
    configure()
    with exit_on_error():
        app()
