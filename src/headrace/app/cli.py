"""`headrace`: the command line. Only the module behind the command in use is imported."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

import click
import msgspec

import headrace
from headrace.app.command_table import WORDS
from headrace.kernel.errors import HeadraceError, InvalidInput, UsageError

INTERRUPTED = 130
VALUED = ("--data", "--system", "--url", "--api-key")


class Headrace(click.Group):
    """The words of the command table as commands, made on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(WORDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, word.summary) for name, word in WORDS.items()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        word = WORDS.get(cmd_name)
        if word is None:
            return None
        if word.special:
            command: click.Command = importlib.import_module(word.module).command
            return command
        made: click.Command = importlib.import_module("headrace.app.operation_commands").command_of(cmd_name, word)
        return made


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"headrace {headrace.__version__}")
        ctx.exit()


@click.group("headrace", cls=Headrace, context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 110})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def root() -> None:
    """One file declares an AI system, one command runs it.

    Every command takes --json, --data DIR and --system NAME; with --url URL and --api-key KEY it asks a running system.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code (INTERFACE.md)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run_command(given))


def commands_first(given: list[str]) -> list[str]:
    """The options of every command may also stand before it: `headrace --data DIR status`."""
    moved: list[str] = []
    rest = list(given)
    while rest and rest[0].partition("=")[0] in (*VALUED, "--json"):
        option = rest.pop(0)
        moved.append(option)
        if option in VALUED and rest:
            moved.append(rest.pop(0))
    return [*rest, *moved]


def run_command(given: list[str]) -> int:
    """The exit code of the command `given`."""
    given = commands_first(given)
    as_json = "--json" in given
    try:
        result = root.main(given, prog_name="headrace", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        if as_json:
            return _report(UsageError("no command given", hint=error.format_message().partition("\n")[0]), as_json=True)
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code
    except click.ClickException as error:
        usage = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "headrace"
        return _report(UsageError(error.format_message(), hint=f"`{usage} --help` shows what is allowed"), as_json)
    except HeadraceError as error:
        return _report(error, as_json)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except OSError as error:
        place = "" if error.filename is None else f"`{error.filename}`: "
        text = f"{place}{error.strerror or error}"
        return _report(InvalidInput(text, hint="check that the path is right, may be written, and has space left"), as_json)
    except Exception as error:  # noqa: BLE001  (the edge of the process: recorded and answered)
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}"
        return _report(HeadraceError(text, hint="this is a defect of headrace; the traceback above names the place"), as_json)


def _report(error: HeadraceError, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(msgspec.json.encode(error.body()).decode() + "\n")
    else:
        click.echo(f"error: {error}", err=True)
    return error.exit_code
