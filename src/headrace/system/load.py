"""Loading a system file: `FILE.py[:NAME]`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path

from headrace.features.types import RequestFeatures, stored_views
from headrace.kernel.errors import HeadraceError, InvalidSystem, NotFound
from headrace.kernel.ids import content_hash
from headrace.system.declarations import System


def load_system(reference: str) -> System:
    """Execute the file and return its System: the one named, or the only one.

    Raises NotFound for a missing file, InvalidSystem with the line for anything wrong in it.
    """
    path_text, _, name = reference.partition(":")
    path = Path(path_text).resolve()
    if not path.is_file():
        raise NotFound(f"there is no system file `{path_text}`", hint="`headrace init NAME --from FILE` writes one")
    module_name = f"headrace_system_{content_hash(str(path).encode())[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InvalidSystem(f"`{path_text}` is not a Python file", hint="a system file ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except InvalidSystem:
        raise
    except SyntaxError as error:
        raise InvalidSystem(f"{path.name}:{error.lineno}: {error.msg}", hint="mend the syntax") from None
    except HeadraceError as error:
        raise InvalidSystem(f"{path.name}:{_line(error, path)}: {error.message}", hint=error.hint) from None
    except (Exception, SystemExit) as error:
        place = f"{path.name}:{_line(error, path)}"
        raise InvalidSystem(f"{place}: {type(error).__name__}: {error}", hint="mend that line") from error
    finally:
        sys.path.remove(str(path.parent))
    systems = {key: value for key, value in vars(module).items() if isinstance(value, System)}
    if name and name not in systems:
        raise NotFound.of("system", name, systems)
    if not name and len(systems) != 1:
        raise InvalidSystem(
            f"{path.name}:1: the file declares {len(systems)} systems: {', '.join(systems) or 'none'}",
            hint='declare one with `system = hr.System("name")`, or name one: FILE.py:NAME',
        )
    system = systems[name] if name else next(iter(systems.values()))
    specs = system.specs()
    for declared in [*stored_views(specs), *specs.all(RequestFeatures)]:
        assert declared.definition_hash  # refused here if it has none, and known before the file is another
    return system


def _line(error: BaseException, path: Path) -> int:
    """The line of the file at which the error arose, 0 when it arose elsewhere."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((f.lineno or 0 for f in frames if f.filename == str(path)), 0)
