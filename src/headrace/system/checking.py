"""Checking a system file: every problem of it at once, not only the first.

The file is executed statement by statement. A statement that fails is noted, and the names it would have given are
*missing*: a later NameError of one of them is its consequence, not a problem of its own.
"""

from __future__ import annotations
import __future__

import ast
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from headrace.data.types import StreamSpec
from headrace.features.types import stored_views
from headrace.kernel.errors import HeadraceError, InvalidSystem, NotFound
from headrace.kernel.ids import content_hash
from headrace.monitoring.types import WatchSpec
from headrace.serving.types import ServiceSpec
from headrace.system.declarations import System
from headrace.training.types import ModelSpec


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong: `line` of the file (0: the file as a whole), what, and how to mend it."""

    line: int
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found. `declares` counts declarations by kind, such as {"stream": 2}."""

    file: str
    system: str | None
    declares: dict[str, int]
    problems: list[Problem]


@dataclass
class _Execution:
    path: Path
    module: ModuleType
    problems: list[Problem] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)


def check(reference: str, more: Callable[[System], Iterable[HeadraceError]] | None = None) -> Checked:
    """Check `FILE.py[:NAME]`; `more` finds what the file alone does not tell. NotFound when there is no such file; everything
    else is in `problems`."""
    path_text, _, name = reference.partition(":")
    path = Path(path_text).resolve()
    if not path.is_file():
        raise NotFound(f"there is no system file `{path_text}`", hint="`headrace init NAME --from FILE` writes one")
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        return Checked(path_text, None, {}, [Problem(error.lineno or 0, f"syntax: {error.msg}", "mend the syntax")])
    except ValueError as error:
        return Checked(path_text, None, {}, [Problem(0, f"not a Python file: {error}", "a system file is Python text")])
    execution = _execute(path, tree)
    problems = [*execution.problems, *_missing_libraries(tree)]
    system = _system(execution, name, problems)
    if system is not None and more is not None:
        problems += [_refused(error, path, 0) for error in more(system)]
    problems.sort(key=lambda problem: problem.line)
    return Checked(path_text, None if system is None else system.name, _declares(system), problems)


def _execute(path: Path, tree: ast.Module) -> _Execution:
    name = f"headrace_check_{content_hash(str(path).encode())[:12]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    execution = _Execution(path, module)
    flags = _future_flags(tree)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    linecache.checkcache(str(path))
    try:
        for statement in tree.body:
            code = compile(ast.Module([statement], []), str(path), "exec", flags, dont_inherit=True)
            _run(execution, code, statement)
    finally:
        sys.path.remove(str(path.parent))
        del sys.modules[name]
    return execution


def _run(execution: _Execution, code: Any, statement: ast.stmt) -> None:
    try:
        exec(code, vars(execution.module))
        return
    except NameError as error:
        if error.name not in execution.missing:
            execution.problems.append(_problem(error, execution.path, statement))
    except (Exception, SystemExit) as error:  # noqa: BLE001  (the user's code: whatever it raises is what was looked for)
        execution.problems.append(_problem(error, execution.path, statement))
    execution.missing.update(_bound(statement))


def _problem(error: BaseException, path: Path, statement: ast.stmt) -> Problem:
    frames = reversed(traceback.extract_tb(error.__traceback__))
    line = next((f.lineno for f in frames if f.filename == str(path) and f.lineno), statement.lineno)
    if isinstance(error, HeadraceError):
        return _refused(error, path, line)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return Problem(line, f"`{error.name}` is not installed", _install(error.name))
    return Problem(line, f"{type(error).__name__}: {error}", "mend that line")


def _refused(error: HeadraceError, path: Path, line: int) -> Problem:
    """Where the message says, else on `line`."""
    declared, _, rest = error.message.partition(": ")
    place, _, number = declared.rpartition(":")
    if place == path.name and number.isdigit():
        return Problem(int(number), rest, error.hint)
    return Problem(line, error.message, error.hint)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that the statement would have given."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]


def _future_flags(tree: ast.Module) -> int:
    flags = 0
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            for alias in statement.names:
                flags |= getattr(__future__, alias.name).compiler_flag
    return flags


def _missing_libraries(tree: ast.Module) -> Iterator[Problem]:
    """Libraries that functions of the file import on use, and that are not installed."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in names:
                root = name.partition(".")[0]
                if importlib.util.find_spec(root) is None:
                    line = getattr(node, "lineno", function.lineno)
                    yield Problem(line, f"`{function.name}` imports `{root}`, which is not installed", _install(root))


def _install(name: str) -> str:
    if name in ("sklearn", "lightgbm", "optuna", "skl2onnx", "onnxmltools"):
        return "pip install 'headrace[train]'"
    return f"pip install {name}"


def _system(execution: _Execution, name: str, problems: list[Problem]) -> System | None:
    systems = {key: value for key, value in vars(execution.module).items() if isinstance(value, System)}
    if name and name not in systems:
        problems.append(Problem(0, f"it declares no system `{name}`; it has {', '.join(systems) or 'none'}", "mend the name"))
        return None
    if name:
        return systems[name]
    if len(systems) > 1:
        names = ", ".join(systems)
        problems.append(Problem(0, f"it declares {len(systems)} systems: {names}", "name one: FILE.py:NAME"))
    elif not systems and not problems:
        problems.append(Problem(0, "it declares no system", 'add `system = hr.System("name")`'))
    return next(iter(systems.values())) if len(systems) == 1 else None


def _declares(system: System | None) -> dict[str, int]:
    if system is None:
        return {}
    specs = system.specs()
    kinds = {"stream": StreamSpec, "model": ModelSpec, "service": ServiceSpec, "watch": WatchSpec}
    counts = {word: len(specs.all(kind)) for word, kind in kinds.items()}
    return {"stream": counts.pop("stream"), "view": len(stored_views(specs)), **counts}


class FoundProblems(InvalidSystem):
    """A system file with problems: all of them, in the message and in the body."""

    def __init__(self, checked: Checked) -> None:
        count = len(checked.problems)
        lines = [f"{checked.file}:{p.line}: {p.message}\n    {p.hint}" for p in checked.problems]
        super().__init__(
            f"{count} problem{'s' if count > 1 else ''} in `{checked.file}`\n" + "\n".join(lines),
            hint="mend them and check again",
        )
        self.checked = checked

    def body(self) -> dict[str, dict[str, Any]]:
        problems = [{"line": p.line, "message": p.message, "hint": p.hint} for p in self.checked.problems]
        return {"error": {**super().body()["error"], "problems": problems}}
