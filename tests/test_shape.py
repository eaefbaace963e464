"""The shape of the package: what is large asks to be split, and the list of exceptions may only shrink."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "headrace"
LIMITS = {"file": 300, "function": 50, "arguments": 7, "class": 20}
"""Lines of a file, lines of a function, its arguments without self, methods of a class."""

ALLOWED = {
    "arguments system/declarations.py:System.stream": (11, "the names of INTERFACE.md: what a stream declares"),
    "arguments system/file_operations.py:backfill": (8, "the options of INTERFACE.md, and the memory it may take"),
    "arguments system/declarations.py:System.windows": (8, "the names of INTERFACE.md: what windows declare"),
    "arguments system/declarations.py:System.watch": (9, "the names of INTERFACE.md: what a watch declares"),
}
"""What is larger, how large it may be, and why. An entry that is no longer needed, or too generous, fails."""

IMPORTS_ON_USE = ("engines/open.py", "app/", "training/", "registry/")
"""Where a function may import: engines chosen by URL, the commands, the optional trainer libraries."""


def modules() -> Iterator[tuple[str, ast.Module, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text()
        yield str(path.relative_to(PACKAGE)), ast.parse(text), text


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    a = function.args
    names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return len([n for n in names if n not in ("self", "cls")])


def measured() -> dict[str, int]:
    """`"kind place"` -> size, of everything in the package."""
    sizes: dict[str, int] = {}

    def visit(node: ast.AST, place: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = place
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{place}.{child.name}" if ".py:" in place else f"{place}:{child.name}"
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                sizes[f"function {inner}"] = (child.end_lineno or 0) - child.lineno + 1
                sizes[f"arguments {inner}"] = arguments(child)
            elif isinstance(child, ast.ClassDef):
                methods = [x for x in child.body if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)]
                sizes[f"class {inner}"] = len(methods)
            visit(child, inner)

    for name, tree, text in modules():
        sizes[f"file {name}"] = text.count("\n")
        visit(tree, name)
    return sizes


def test_nothing_is_larger_than_it_may_be() -> None:
    large = {what: size for what, size in measured().items() if size > LIMITS[what.partition(" ")[0]]}
    new = {what: size for what, size in large.items() if size > ALLOWED.get(what, (0, ""))[0]}
    assert not new, f"split these (or give a reason in ALLOWED): {new}"


def test_the_list_of_exceptions_only_shrinks() -> None:
    sizes = measured()
    generous = {
        what: sizes.get(what)
        for what, (size, reason) in ALLOWED.items()
        if sizes.get(what) != size or size <= LIMITS[what.partition(" ")[0]] or not reason
    }
    assert not generous, f"set these entries to their size, or remove them: {generous}"


def test_functions_import_only_where_it_is_the_design() -> None:
    found = []
    for name, tree, _ in modules():
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)):
            inside = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
            if inside and not name.startswith(IMPORTS_ON_USE):
                found.append(f"{name}:{inside[0].lineno}")
    assert not found, f"import at the top of the module: {found}"


def imports(name: str, tree: ast.Module, known: set[str]) -> set[str]:
    """Modules of the package that importing this one imports (not in functions, not for type checkers)."""
    found: set[str] = set()
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            targets = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            targets = []
            if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
                pending += [*node.body, *node.orelse]
            if isinstance(node, ast.Try | ast.With | ast.ClassDef):
                pending += node.body
        found.update(t for t in targets if t in known)
    return found - {name}


def test_no_import_cycle() -> None:
    trees = {
        "headrace." + name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree for name, tree, _ in modules()
    }
    graph = {name: imports(name, tree, set(trees)) for name, tree in trees.items()}
    while graph:
        leaves = {name for name, targets in graph.items() if not targets & set(graph)}
        assert leaves, f"these modules import each other: {sorted(graph)}"
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
