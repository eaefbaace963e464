"""Commands made from operations. Required arguments may stand as words or as options: `rollout start SERVICE VERSION`.

What reaches a system, the HTTP client or the engines of a data folder, is imported by the command that needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import click

from headrace.app.arguments import Parameter, from_text, parameters, typed
from headrace.app.command_table import Word
from headrace.app.logs import set_up_log
from headrace.app.output import show
from headrace.kernel.errors import UsageError
from headrace.kernel.operation import OPERATIONS, Operation
from headrace.kernel.settings import Settings, load_settings

FOUND_BAD = 1
STANDALONE = ("features.backfill", "features.join")
"""Operations on the caller's files alone: they need no data folder, and get no Context."""
BEFORE_FIRST_RUN = ("keys.create", "keys.list", "keys.revoke")
"""Operations that create the data folder: keys must exist before a system is opened to others."""


class _Commands(click.Group):
    """The commands that begin with a word; of those that stand elsewhere only the one in use is imported."""

    def __init__(self, name: str, word: Word) -> None:
        super().__init__(name, help=word.summary, no_args_is_help=True)
        self._word = word

    def list_commands(self, ctx: click.Context) -> list[str]:
        for module in (self._word.module, *self._word.elsewhere.values()):
            importlib.import_module(module)
        begun = [o.cli.partition(" ") for o in OPERATIONS.values() if o.cli is not None]
        return sorted(rest for word, _, rest in begun if word == self.name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        importlib.import_module(self._word.elsewhere.get(cmd_name, self._word.module))
        operation = _operation_of(f"{self.name} {cmd_name}")
        return None if operation is None else command(cmd_name, operation)


def _operation_of(cli: str) -> Operation | None:
    return next((operation for operation in OPERATIONS.values() if operation.cli == cli), None)


def command_of(name: str, word: Word) -> click.Command:
    """The command of an operation called `name`, or the group of those that begin with it."""
    if not word.elsewhere:
        importlib.import_module(word.module)
    operation = _operation_of(name)
    return _Commands(name, word) if operation is None else command(name, operation)


def shared_options() -> list[click.Parameter]:
    """The options of every command."""
    return [
        click.Option(["--data"], metavar="DIR", help="The data folder [./.headrace]."),
        click.Option(["--system"], metavar="NAME", help="The system, when the data folder holds several."),
        click.Option(["--url"], metavar="URL", help="Ask the running headrace at URL."),
        click.Option(["--api-key"], metavar="KEY", help="The key for --url."),
        click.Option(["--json", "as_json"], is_flag=True, help="One JSON document on stdout."),
    ]


def command(name: str, operation: Operation) -> click.Command:
    """The command of one operation."""
    known = parameters(operation)
    words = " ".join(p.name.upper() for p in known if p.required)
    params: list[click.Parameter] = [click.Argument(["words"], nargs=-1, metavar=words or " ")]
    params += [_option(parameter) for parameter in known]
    params += shared_options()
    return click.Command(
        name, params=params, callback=_callback(operation), help=operation.function.__doc__, short_help=operation.summary
    )


def _option(parameter: Parameter) -> click.Option:
    shown = "FILE" if parameter.kind in ("path", "object") else "|".join(parameter.choices) or parameter.kind.upper()
    text = "Required; also as a word." if parameter.required else _default_text(parameter)
    if parameter.kind == "bool":
        return click.Option([f"{parameter.option}/--no-{parameter.option[2:]}", parameter.name], default=None, help=text)
    many = parameter.kind == "list"
    return click.Option([parameter.option, parameter.name], multiple=many, default=None, metavar=shown, help=text)


def _default_text(parameter: Parameter) -> str:
    return "" if parameter.default in (None, "", (), []) else f"[{parameter.default}]"


def _callback(operation: Operation) -> Callable[..., int]:
    def run(
        words: Sequence[str], data: str | None, system: str | None, url: str | None, api_key: str | None,
        as_json: bool, **options: Any,
    ) -> int:  # fmt: skip
        arguments = typed(operation, given_arguments(operation, list(words), options))
        settings = load_settings({"data": data, "url": url, "api_key": api_key})
        set_up_log(settings.log_format, settings.log_level, least="warning")
        if data is not None and url is not None:
            raise UsageError("--data and --url are two ways to reach a system", hint="give one of them")
        if operation.name in STANDALONE and url is not None:
            raise UsageError(f"`headrace {operation.cli}` works on files and asks no system", hint="leave --url out")
        if operation.name in STANDALONE:
            result = operation.function(None, **arguments)
        elif settings.url and data is None:
            result = _asked(settings, operation, arguments)
        else:
            result = _opened(settings, system, operation, arguments)
        bad = operation.found_bad is not None and operation.found_bad(result)
        show(result, as_json=as_json, fields=operation.text)
        return FOUND_BAD if bad else 0

    return run


def _asked(settings: Settings, operation: Operation, arguments: dict[str, Any]) -> Any:
    """The result of the operation in the running system."""
    from headrace.app.client import call  # loads http and ssl

    return call(settings.url, settings.api_key, operation, arguments)


def _opened(settings: Settings, system: str | None, operation: Operation, arguments: dict[str, Any]) -> Any:
    """The result of the operation in the data folder, whose engines are opened."""
    from headrace.app.installed_operation import run_installed  # loads the engines' ports and SQLAlchemy

    return run_installed(settings, system, operation, arguments, create=operation.name in BEFORE_FIRST_RUN)


def given_arguments(operation: Operation, words: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Options, then words for the required arguments without one, in order; further words go to the one list."""
    known = parameters(operation)
    arguments: dict[str, Any] = {}
    for parameter in known:
        value = options.get(parameter.name)
        if parameter.kind == "list":
            arguments.update({parameter.name: list(value)} if value else {})
        elif value is not None:
            arguments[parameter.name] = value if parameter.kind == "bool" else from_text(parameter, value)
    for parameter in known:
        if parameter.required and parameter.name not in arguments and words and parameter.kind != "list":
            arguments[parameter.name] = from_text(parameter, words.pop(0))
    lists = [parameter for parameter in known if parameter.kind == "list"]
    if words and len(lists) == 1:
        arguments[lists[0].name] = [*arguments.get(lists[0].name, []), *words]
        words = []
    if words:
        raise UsageError(f"`{words[0]}` is one word too many", hint=f"`headrace {operation.cli} --help` shows what is allowed")
    missing = [parameter for parameter in known if parameter.required and parameter.name not in arguments]
    if missing:
        raise UsageError(
            f"`headrace {operation.cli}` needs {missing[0].option}", hint=f"`headrace {operation.cli} --help` shows all"
        )
    return arguments
