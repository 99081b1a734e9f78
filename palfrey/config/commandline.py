"""The table as a click command: `--help` in the table's groups, both servers' flags, values left as text.

click finds the options and says what is wrong with unknown ones; it does not judge values. They stay as they were
written, so that the same parser reads them as in every other source and a wrong one is refused in the same words
(`sources.py`). What other servers' flags mean nothing here are options too, hidden ones.
"""

from __future__ import annotations

import difflib
import platform
from collections.abc import Sequence
from typing import Final

import click

from palfrey.config.foreign import FOREIGN, Foreign
from palfrey.config.parsers import Shape
from palfrey.config.settings import GROUPS, ROWS, Row
from palfrey.version import __version__

OWN: Final = "Palfrey"
"""The group of the options that are no settings."""

_EPILOG: Final = """\
Every setting can also be set in palfrey.conf.py, by its name (--log-level is log_level), and in the environment, by
PALFREY_ and its name (PALFREY_LOG_LEVEL); the command line wins over the environment, and that over the file. Flags
of Gunicorn and uvicorn that are not listed here are understood where they have a meaning."""


class SettingOption(click.Option):
    """One row as an option, with the row's own words in the help."""

    def __init__(self, row: Row) -> None:
        self.row = row
        shape = row.parser.shape
        flags = [*row.flags, *row.also]
        if shape is Shape.SWITCH:
            flags = [f"{flag}/--no-{flag[2:]}" if flag.startswith("--") else flag for flag in flags]
        super().__init__(
            [row.name, *flags],
            help=row.doc,
            metavar=row.metavar or None,
            default=None,
            multiple=shape is Shape.LIST,
            is_flag=shape is Shape.SWITCH,
            type=None if shape is Shape.SWITCH else click.STRING,
        )

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """The left and the right column."""
        row = self.row
        switch = row.parser.shape is Shape.SWITCH
        left = ", ".join(row.flags) + (f" {row.metavar}" if row.metavar else "")
        if switch and row.default is not False:
            left += f" / --no-{row.flags[-1][2:]}"
        notes = [f"env: {', '.join(row.env[1:])}"] if row.env[1:] else []
        if row.parser.shape is Shape.LIST:
            notes.append("repeatable")
        elif row.default is True:
            notes.append("default: on")
        elif not switch and row.default not in (None, ""):
            notes.append(f"default: {_as_text(row.default)}")
        return left, (row.doc + (f" [{'; '.join(notes)}]" if notes else "")).replace("`", "")


def _as_text(value: object) -> str:
    """A default as it would be written on the command line."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class ForeignOption(click.Option):
    """Another server's option without effect."""

    def __init__(self, foreign: Foreign) -> None:
        super().__init__(
            [foreign.name, *foreign.flags],
            hidden=True,
            default=None,
            is_flag=foreign.switch,
            type=None if foreign.switch else click.STRING,
        )


class Command(click.Command):
    """The `palfrey` command; its help is grouped as the table is."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options group by group."""
        sections: dict[str, list[tuple[str, str]]] = {group: [] for group in (*GROUPS, OWN)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                group = parameter.row.group if isinstance(parameter, SettingOption) else OWN
                sections[group].append(record)
        for group, records in sections.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records, col_max=28)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"palfrey {__version__} ({platform.python_implementation()} {platform.python_version()})")
        ctx.exit()


def command() -> Command:
    """The whole command line; invoked, it returns its parameters by name, None or () where one was not given."""
    parameters: list[click.Parameter] = [click.Argument(["app"], required=False, metavar="[MODULE:ATTRIBUTE]")]
    parameters += [SettingOption(row) for row in ROWS.values() if row.flags]
    parameters += [
        click.Option(
            ["config", "-c", "--config"],
            metavar="FILE",
            help="The configuration file, or python:MODULE; else palfrey.conf.py, if it exists. [env: PALFREY_CONFIG]",
        ),
        click.Option(
            ["check_config", "--check-config"],
            is_flag=True,
            help="Validate the settings, import the application in a child process, and exit.",
        ),
        click.Option(
            ["print_config", "--print-config"],
            is_flag=True,
            help="Print each setting and its source, and exit.",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Show the version and exit.",
        ),
    ]
    parameters += [ForeignOption(foreign) for foreign in FOREIGN.values() if foreign.flags]
    return Command(
        "palfrey",
        params=parameters,
        callback=lambda **parameters: parameters,
        help="Serves an ASGI application, such as main:app, with supervised worker processes.",
        epilog=_EPILOG,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )


def parse(argv: Sequence[str] | None) -> dict[str, object] | None:
    """What was given: by name, text, a list of text, or a bool. None: --help or --version has been answered.

    `argv` without the program's name; None: sys.argv. Raises click.ClickException.
    """
    try:
        parameters = command().main(None if argv is None else list(argv), prog_name="palfrey", standalone_mode=False)
    except click.NoSuchOption as error:
        foreign = FOREIGN.get(error.option_name.lstrip("-").replace("-", "_"))
        if foreign is not None:  # known, and refused because it would ask for what is not done
            raise click.UsageError(f"{error.option_name}: {foreign.reason}.", ctx=error.ctx) from None
        # click's own guess would also take the hidden options, which do nothing.
        likely = difflib.get_close_matches(error.option_name, _visible_flags(), cutoff=0.7)
        raise click.NoSuchOption(error.option_name, possibilities=likely, ctx=error.ctx) from None
    if not isinstance(parameters, dict):
        return None
    return {name: value for name, value in parameters.items() if value is not None and value != ()}


def _visible_flags() -> list[str]:
    switches = [row.flags[-1] for row in ROWS.values() if row.parser.shape is Shape.SWITCH]
    return [flag for row in ROWS.values() for flag in row.flags] + [f"--no-{flag[2:]}" for flag in switches]
