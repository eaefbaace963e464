"""Loading a system file: `FILE.py[:NAME]`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from headrace.data.types import Check, StreamSpec
from headrace.features.code_content import code_content
from headrace.features.types import RequestFeatures, stored_views
from headrace.kernel.errors import HeadraceError, InvalidSystem, NotFound
from headrace.kernel.ids import content_hash
from headrace.kernel.specs import Origin, Specs
from headrace.system.declarations import System
from headrace.system.neighbours import Neighbours, packed, remember, unpacked
from headrace.training.types import ModelSpec

_CAME: dict[Path, set[str]] = {}
"""The modules of a folder that came with files in it: read anew when one of these is."""


def load_system(reference: str) -> System:
    """Execute the file and return its System: the one named, or the only one.

    Raises NotFound for a missing file, InvalidSystem with the line for anything wrong in it.
    """
    path_text, _, name = reference.partition(":")
    path = Path(path_text).resolve()
    if not path.is_file():
        raise NotFound(f"there is no system file `{path_text}`", hint="`headrace init NAME --from FILE` writes one")
    source = path.read_bytes()
    neighbours = Neighbours(path.parent, {})
    module = _executed(path, source, neighbours)
    return _chosen(module, path, name, packed(source, neighbours.read))


def load_kept(reference: str, content: bytes) -> Specs:
    """The declarations of a content that the system had or has, beside those that were read from its file before."""
    path_text, _, name = reference.partition(":")
    path = Path(path_text).resolve()
    source, modules = unpacked(content)
    return _chosen(_executed(path, source, Neighbours(path.parent, modules)), path, name, content).specs()


def _executed(path: Path, source: bytes, neighbours: Neighbours) -> ModuleType:
    """The module of a content of the file, which imports its neighbours."""
    module_name = f"headrace_system_{content_hash(str(path).encode())[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InvalidSystem(f"`{path}` is not a Python file", hint="a system file ends in .py")
    module = importlib.util.module_from_spec(spec)
    came = _CAME.setdefault(path.parent, set())
    for name in came:
        sys.modules.pop(name, None)
    sys.modules[module_name] = module
    sys.path.insert(0, str(path.parent))
    sys.meta_path.insert(0, neighbours)
    filename = str(path)
    try:
        spec.origin = filename = remember(path, source)
        exec(compile(source, filename, "exec", dont_inherit=True), vars(module))
    except InvalidSystem:
        raise
    except SyntaxError as error:
        raise InvalidSystem(f"{path.name}:{error.lineno}: {error.msg}", hint="mend the syntax") from None
    except HeadraceError as error:
        raise InvalidSystem(f"{path.name}:{_line(error, filename)}: {error.message}", hint=error.hint) from None
    except (Exception, SystemExit) as error:
        place = f"{path.name}:{_line(error, filename)}"
        raise InvalidSystem(f"{place}: {type(error).__name__}: {error}", hint="mend that line") from error
    finally:
        sys.meta_path.remove(neighbours)
        sys.path.remove(str(path.parent))
        came |= neighbours.names
    return module


def _chosen(module: ModuleType, path: Path, name: str, content: bytes) -> System:
    systems = {key: value for key, value in vars(module).items() if isinstance(value, System)}
    if name and name not in systems:
        raise NotFound.of("system", name, systems)
    if not name and len(systems) != 1:
        raise InvalidSystem(
            f"{path.name}:1: the file declares {len(systems)} systems: {', '.join(systems) or 'none'}",
            hint='declare one with `system = hr.System("name")`, or name one: FILE.py:NAME',
        )
    system = systems[name] if name else next(iter(systems.values()))
    system.origin = Origin(system.name, content, partial(load_kept, f"{path}:{name}" if name else str(path)))
    specs = system.specs()
    for declared in [*stored_views(specs), *specs.all(RequestFeatures)]:
        assert declared.definition_hash  # refused here if it has none
    rules = [rule.function for stream in specs.all(StreamSpec) for rule in stream.expect if isinstance(rule, Check)]
    models = [function for model in specs.all(ModelSpec) for function in (model.function, model.evaluate) if function]
    for function in [*rules, *models]:
        function_content(function)  # noted here, as it is now
    return system


@cache
def function_content(function: Callable[..., Any]) -> str:
    """What a declared function computes, with all that it reads, as it was when the file was read: the files of its
    neighbours may be others later. Its source alone where it reads what has no value."""
    try:
        return code_content(function, "a function")
    except InvalidSystem:
        pass
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # a built-in one
        return repr(function)


def _line(error: BaseException, filename: str) -> int:
    """The line of the file at which the error arose, 0 when it arose elsewhere."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((f.lineno or 0 for f in frames if f.filename == filename), 0)
