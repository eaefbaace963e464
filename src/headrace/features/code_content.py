"""What a function of the system file computes, as a value to hash: its own syntax, without comments, annotations and places,
and by value all that it reads from outside - defaults, closure cells, globals, functions and classes of the user's own modules
with what these read. What comes with Python or is installed counts by name. The same in every version of Python.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime
import decimal
import dis
import enum
import fractions
import functools
import linecache
import operator
import pathlib
import re
import site
import sys
import sysconfig
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from headrace.kernel.errors import InvalidSystem
from headrace.kernel.ids import content_hash

_Nodes = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
_IGNORED = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx"}
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
                   | {*site.getsitepackages(), site.getusersitepackages()})  # fmt: skip
_WRITTEN = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType, datetime.date, datetime.time,
            datetime.timedelta, datetime.tzinfo, decimal.Decimal, fractions.Fraction, range, slice, pathlib.PurePath, uuid.UUID,
            zoneinfo.ZoneInfo)  # fmt: skip
"""Types whose `repr` is the value."""


def code_content(function: Callable[..., object], what: str) -> str:
    """A hash of what the function computes; `what` names it in errors. InvalidSystem when it has no source, or reads what has
    no value that can be compared."""
    return content_hash(_Content(what, {}, {}).of(function, ""))


class _Content:
    """Values as JSON can have them. What was met before is given by its number: functions may call each other."""

    def __init__(self, what: str, met: Mapping[int, tuple[int, object]], files: Mapping[str, str]) -> None:
        self._what = what
        self._met = dict(met)
        self._files = dict(files)
        """By module, the file that its functions were read from."""

    def of(self, value: Any, path: str) -> Any:
        """`path` is how the function comes to the value."""
        if isinstance(value, _WRITTEN) and not isinstance(value, enum.Enum | np.generic):
            return [type(value).__name__, repr(value)]
        if isinstance(value, functools._lru_cache_wrapper):
            value = value.__wrapped__
        if id(value) in self._met:
            return ["met", self._met[id(value)][0]]
        if isinstance(value, types.FunctionType | type | list | Mapping) or dataclasses.is_dataclass(value):
            self._met[id(value)] = len(self._met), value
        if isinstance(value, types.FunctionType):
            return self._function(value, path)
        if isinstance(value, type):
            return self._class(value, path)
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, functools.partial):
            return ["partial", *(self.of(part, path) for part in (value.func, value.args, value.keywords))]
        if isinstance(value, types.MethodType):
            return ["method", self.of(value.__func__, path), self.of(value.__self__, path)]
        if isinstance(value, np.vectorize):
            return ["vectorize", self.of(value.pyfunc, path)]
        if isinstance(value, types.BuiltinFunctionType | np.ufunc) and _is_named(value):
            return ["builtin", value.__name__]
        return self._collection(value, path)

    def _collection(self, value: Any, path: str) -> Any:
        kind = type(value).__name__
        if isinstance(value, enum.Enum):
            return ["enum", self.of(type(value), path), value.name]
        if isinstance(value, list | tuple):
            return [kind, *(self.of(item, path) for item in value)]
        if isinstance(value, Mapping):
            return [kind, *([self.of(key, path), self.of(item, path)] for key, item in value.items())]
        if isinstance(value, set | frozenset):
            return [kind, *sorted(content_hash(_Content(self._what, self._met, self._files).of(item, path)) for item in value)]
        if isinstance(value, re.Pattern):
            return [kind, repr(value.pattern), value.flags]
        if isinstance(value, np.ndarray):
            held = self.of(value.tolist(), path) if value.dtype.hasobject else content_hash(value.tobytes())
            return [kind, str(value.dtype), list(value.shape), held]
        if isinstance(value, np.generic):
            return [kind, str(value.dtype), value.tobytes().hex()]
        if isinstance(value, np.dtype):
            return [kind, str(value)]
        if dataclasses.is_dataclass(value):
            fields = {field.name: self.of(operator.attrgetter(field.name)(value), path) for field in dataclasses.fields(value)}
            return ["dataclass", self.of(type(value), path), fields]
        raise InvalidSystem(
            f"{self._what} reads {path or 'itself'}, a {kind}, whose value cannot be part of its definition",
            hint="let it read numbers, texts, times, arrays, lists, dicts or dataclasses of such, and functions",
        )

    def _function(self, function: types.FunctionType, path: str) -> Any:
        if _is_installed(function.__module__, function.__code__.co_filename):
            return ["installed", function.__module__, function.__qualname__]
        code = function.__code__
        self._files.setdefault(function.__module__, code.co_filename)
        lines = _lines(code.co_filename, function.__globals__)
        nodes = self._nodes(lines, code.co_firstlineno, code.co_name, path)
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        read = {name: self.of(cell.cell_contents, f"`{name}`") for name, cell in cells if not _is_empty(cell)}
        defaults = [self.of(given, path or "a default") for given in (function.__defaults__, function.__kwdefaults__)]
        return ["function", nodes, defaults, read, self._globals(function)]

    def _globals(self, function: types.FunctionType) -> dict[str, Any]:
        """By name, with the attributes of user modules. A name that is nowhere is none."""
        found = {}
        for names in sorted(set(_names(function.__code__))):
            held, name = function.__globals__, ""
            value: Any = function
            for number, part in enumerate(names):
                if part not in held:
                    value = function
                    break
                name, value = f"{name}.{part}" if name else part, held[part]
                if not isinstance(value, types.ModuleType) or number == len(names) - 1 or _is_installed_module(value):
                    break
                held = vars(value)
            if value is not function:
                found[name] = self.of(value, f"`{name}`")
        return found

    def _class(self, kind: type, path: str) -> Any:
        module = sys.modules.get(kind.__module__)
        if module is None or _is_installed_module(module):
            return ["installed", kind.__module__, kind.__qualname__]
        origin = None if module.__spec__ is None else module.__spec__.origin
        lines = _lines(self._files.get(kind.__module__) or origin or vars(module).get("__file__") or "", vars(module))
        members = kind.__members__ if issubclass(kind, enum.Enum) else {}
        read: dict[str, Any] = {name: self.of(member.value, path) for name, member in members.items()}
        for name, value in vars(kind).items():
            method = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            method = method.fget if isinstance(method, property) else method
            if isinstance(method, types.FunctionType):
                file = method.__code__.co_filename
                read |= {} if file.startswith("<") or _is_installed(None, file) else {name: self._globals(method)}
            elif not name.startswith("_") and isinstance(value, (*_WRITTEN, list, tuple, dict, set, frozenset, np.ndarray)):
                read.setdefault(name, self.of(value, f"`{kind.__name__}.{name}`"))
        bases = [self.of(base, path) for base in kind.__bases__]
        return ["class", self._nodes(lines, None, kind.__name__, path), bases, read]

    def _nodes(self, lines: str, line: int | None, name: str, path: str) -> list[Any]:
        """The syntax of what has this name and, given a line, begins there: of several lambdas of one line all."""
        try:
            found = [_syntax(node, own=True) for node in _all_nodes(lines) if _is_of(node, line, name)]
        except SyntaxError:
            found = []
        if not found:
            raise InvalidSystem(f"the source of {path or self._what} is in no file, or not there any more",
                                hint="define it in a file with `def`, `lambda` or `class`")  # fmt: skip
        return found


def _lines(file: str, known: dict[str, Any]) -> str:
    """The source file as it is known to tracebacks, "" for none."""
    linecache.checkcache(file)
    return "".join(linecache.getlines(file, known))


@functools.lru_cache(16)
def _all_nodes(text: str) -> list[_Nodes]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, _Nodes)]


def _is_of(node: _Nodes, line: int | None, name: str) -> bool:
    if isinstance(node, ast.Lambda):
        return name == "<lambda>" and node.lineno == line
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return node.name == name and isinstance(node, ast.ClassDef) == (line is None) and line in (None, first)


def _syntax(node: Any, *, own: bool = False) -> Any:
    """The node as JSON. `own`: of what is hashed itself the decorators and the documentation do not count."""
    if isinstance(node, list):
        return [_syntax(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if name not in _IGNORED and value not in (None, [])}
    if own and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        fields.pop("decorator_list", None)
        fields["body"] = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if isinstance(node, ast.JoinedStr):  # Python 3.12 has empty texts there, too
        fields["values"] = [part for part in node.values if not isinstance(part, ast.Constant) or part.value != ""]
    return [type(node).__name__, {name: _syntax(value) for name, value in fields.items()}]


def _names(code: types.CodeType) -> Iterator[tuple[str, ...]]:
    """The globals that the code reads, each with the attributes that are read of it at once."""
    chain: tuple[str, ...] = ()
    for step in dis.get_instructions(code):
        if chain and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            chain = (*chain, str(step.argval))
            continue
        if chain:
            yield chain
        is_global = step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
        chain = (str(step.argval),) if is_global else ()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_installed(module: str | None, file: str | None) -> bool:
    """Whether it comes with Python, is installed, or is of headrace; what is in no file is only when it is compiled."""
    root = (module or "").partition(".")[0]
    if file is None:
        return root != "__main__"
    return root == "headrace" or file.startswith((*_INSTALLED, "<frozen"))


def _is_installed_module(module: types.ModuleType) -> bool:
    return _is_installed(module.__name__, vars(module).get("__file__"))


def _is_named(value: Any) -> bool:
    """Whether the name says what it does: it belongs to a module, and is not made of a function."""
    if isinstance(value, np.ufunc):
        return not value.__name__.endswith(" (vectorized)")
    return value.__self__ is None or isinstance(value.__self__, types.ModuleType)


def _is_empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True
