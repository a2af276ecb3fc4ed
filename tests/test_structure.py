"""Names tell modules, classes and constants apart, and docstrings say what functions take and give."""

from __future__ import annotations

import ast
import collections
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("online", "server", "bootstrap", "scripts")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Every module of the product, by its path from the root."""
    return [path.relative_to(ROOT) for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def exported(module: ast.Module) -> list[str]:
    """The names in a module's ``__all__``."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def public_functions(module: ast.Module) -> Iterator[tuple[str, Function]]:
    """Exported functions, and public methods of exported classes; route handlers document their route."""
    names = exported(module)
    for node in module.body:
        if isinstance(node, Function) and node.name in names and not is_route(node):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and node.name in names:
            for method in node.body:
                if isinstance(method, Function) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method


def is_route(function: Function) -> bool:
    called = {ast.unparse(d.func) for d in function.decorator_list if isinstance(d, ast.Call)}
    return bool(called & {"get", "post", "click.command", "command"}) or any(
        "command" in c or "group" in c for c in called
    )


def arguments(function: Function) -> list[str]:
    given = function.args
    return [
        a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs) if a.arg not in ("self", "cls")
    ]


def missing_sections(function: Function) -> list[str]:
    """The sections that a docstring needs and lacks."""
    docstring = ast.get_docstring(function) or ""
    returns = function.returns is not None and ast.unparse(function.returns) not in ("None", "NoReturn")
    yields = returns and ast.unparse(function.returns or function).startswith(("Iterator", "AsyncIterator"))
    raises = any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(function))
    needed = {"Parameters": True, "Yields": yields, "Returns": returns and not yields, "Raises": raises}
    sections = [name for name, wanted in needed.items() if wanted]
    return [name for name in sections if f"{name}\n{'-' * len(name)}" not in docstring]


@pytest.mark.parametrize("path", sources(), ids=str)
def test_public_functions_of_several_arguments_say_what_they_take_and_give(path: Path) -> None:
    found = {
        name: missing for name, function in public_functions(tree(path))
        if len(arguments(function)) >= 2 and (missing := missing_sections(function))
    }  # fmt: skip
    assert not found


def test_no_two_modules_share_a_name() -> None:
    names = collections.Counter(path.stem for path in sources() if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


def defined(kind: type[ast.stmt]) -> dict[str, list[str]]:
    """Classes, or constants with their values, by name: where each is defined."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for path in sources():
        for node in tree(path).body:
            if kind is ast.ClassDef and isinstance(node, ast.ClassDef):
                found[node.name].append(str(path))
            elif kind is ast.Assign and isinstance(node, ast.Assign | ast.AnnAssign):
                for name in ast.walk(node.targets[0] if isinstance(node, ast.Assign) else node.target):
                    if isinstance(name, ast.Name) and name.id.isupper():
                        found[name.id].append(str(path))
    return found


def test_no_two_classes_share_a_name() -> None:
    shared = {name: places for name, places in defined(ast.ClassDef).items() if len(places) > 1}
    assert shared == {}


def test_no_two_constants_share_a_name() -> None:
    shared = {name: places for name, places in defined(ast.Assign).items() if len(set(places)) > 1}
    assert shared == {}
