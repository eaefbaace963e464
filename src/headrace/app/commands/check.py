"""`headrace check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import click

from headrace.app.output import show
from headrace.kernel.errors import HeadraceError
from headrace.kernel.settings import Settings, load_settings
from headrace.system.checking import FoundProblems, check
from headrace.system.declarations import System


@click.command("check")
@click.argument("file")
@click.option("--data", metavar="DIR", help="The data folder [./.headrace]; its events are looked at too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(file: str, data: str | None, as_json: bool) -> None:
    """Find everything wrong in the system file FILE.py[:NAME], each with its line and how to mend it.

    Where the data folder has events of the system, also the windows that are too much to add over them.
    """
    settings = load_settings({"data": data})
    if data is not None:
        from headrace.app.world import check_installed

        check_installed(settings)
    checked = check(file, _additions(settings) if (settings.data / "format").exists() else None)
    if checked.problems:
        raise FoundProblems(checked)
    show(checked, as_json=as_json)


def _additions(settings: Settings) -> Callable[[System], Iterator[HeadraceError]]:
    """Imported on use: most checks have no data folder."""
    from headrace.engines.open import open_lake, prepare_data_folder
    from headrace.system.additions import demanded

    prepare_data_folder(settings.data)
    return partial(demanded, open_lake(settings))
