"""The conventions of the code that a parser can check: sizes, docstrings, arguments by keyword, words of the docs."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Function = ast.FunctionDef | ast.AsyncFunctionDef

ROOT = Path(__file__).parents[1]

PACKAGE = ROOT / "h5bound"

MAX_MODULE = 350
"""Lines of a module."""

MAX_FUNCTION = 60
"""Lines of a function, with its docstring; without it for the public functions. `convert` may be longer."""

MAX_POSITIONAL = 3
"""Positional arguments in a call of a function of the package."""

MAX_FIELDS = 4
"""Arguments in a construction of a dataclass that need no keywords."""

MAX_WORDS = 25
"""Words of the glossary."""

PUBLIC = {"check", "combine", "convert", "verify", "from_hdf5", "from_resource", "references"}
"""Functions whose docstrings have a section for each parameter."""

BANNED = {"Give", "Tell", "Have", "Let", "Of", "Put"}
"""First words of docstrings that say too little."""

NO_VERBS = {"A", "An", "The", "This", "What", "Whether", "Where", "How", "All", "One", "Nothing", "Each", "No", "Only"}
"""First words of docstrings that are not an instruction."""

ENDING_IN_S = {"Address", "Compress", "Decompress", "Discuss", "Express", "Guess", "Pass", "Process", "Suppress"}
"""Verbs that end in s in the imperative."""


@dataclass(frozen=True, slots=True)
class Module:
    """A parsed module of the package."""

    name: str
    """With dots, as it is imported."""
    path: Path
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Return where a node stands, for a message."""
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


@cache
def list_modules() -> tuple[Module, ...]:
    """Return all modules of the package."""
    return tuple(
        Module(
            name=".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"),
            path=path,
            tree=ast.parse(path.read_text(encoding="utf-8")),
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    )


def list_functions(tree: ast.AST) -> Iterator[Function]:
    """Yield all functions and methods, inner ones too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_property(function: Function) -> bool:
    """Return whether a function is read like an attribute, so that its docstring is a noun phrase."""
    names = {name.id for name in function.decorator_list if isinstance(name, ast.Name)}
    return bool(names & {"property", "cached_property"})


def is_dataclass(node: ast.ClassDef) -> bool:
    """Return whether a class is a dataclass."""
    calls = [item.func if isinstance(item, ast.Call) else item for item in node.decorator_list]
    return any(isinstance(call, ast.Name) and call.id == "dataclass" for call in calls)


@cache
def list_definitions() -> dict[tuple[str, str], ast.AST]:
    """Return functions and classes by module and name."""
    return {
        (module.name, node.name): node
        for module in list_modules()
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def list_names(module: Module) -> dict[str, ast.AST]:
    """Return the functions and classes of the package that a module knows, by the names it has for them."""
    definitions = list_definitions()
    known = {name: node for (home, name), node in definitions.items() if home == module.name}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                definition = definitions.get((node.module, alias.name))
                if definition is not None:
                    known[alias.asname or alias.name] = definition
    return known


def list_calls(module: Module) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield each call of something of the package by its name, or of a method by self, with its definition."""
    known = list_names(module)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
            yield node, known[node.func.id]
        if isinstance(node, ast.ClassDef):
            methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                    owner, name = call.func.value, call.func.attr
                    if isinstance(owner, ast.Name) and owner.id in ("self", "cls", node.name) and name in methods:
                        yield call, methods[name]


def read_glossary() -> list[str]:
    """Return the words of the glossary."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Glossary")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]
    return [word.strip() for row in rows if not row.startswith("-") for word in row.split(",")]


def test_no_module_is_long() -> None:
    lengths = {module.at(module.tree): len(module.path.read_text().splitlines()) for module in list_modules()}
    assert {where: lines for where, lines in lengths.items() if lines > MAX_MODULE} == {}


def test_no_function_is_long() -> None:
    long = {}
    for module in list_modules():
        for function in list_functions(module.tree):
            start = function.lineno
            if function.name in PUBLIC and ast.get_docstring(function) is not None:
                start = (function.body[0].end_lineno or start) + 1
            lines = (function.end_lineno or start) - start + 1
            if lines > MAX_FUNCTION and function.name not in ("combine", "convert"):
                long[f"{module.at(function)} {function.name}"] = lines
    assert long == {}, "\n".join(f"{where}: {lines}" for where, lines in long.items())


def test_docstrings_begin_with_an_instruction() -> None:
    odd = []
    for module in list_modules():
        for function in list_functions(module.tree):
            text = ast.get_docstring(function)
            if text is None or is_property(function):
                continue
            word = text.split()[0].rstrip(".,:;")
            third_person = word.endswith("s") and word not in ENDING_IN_S
            if word in BANNED | NO_VERBS or third_person or not re.fullmatch(r"[A-Z][a-z]+", word):
                odd.append(f"{module.at(function)} {function.name}: {text.splitlines()[0]}")
    assert not odd, "\n".join(odd)


def test_many_arguments_are_passed_by_keyword() -> None:
    odd = []
    for module in list_modules():
        for call, definition in list_calls(module):
            given = [item for item in call.args if not isinstance(item, ast.Starred)]
            if isinstance(definition, ast.ClassDef) and is_dataclass(definition):
                many = len(call.args) + len(call.keywords) > MAX_FIELDS and bool(given)
            else:
                takes_any_number = isinstance(definition, ast.FunctionDef) and definition.args.vararg is not None
                many = len(given) > MAX_POSITIONAL and not takes_any_number
            if many:
                odd.append(f"{module.at(call)} {ast.unparse(call.func)}")
    assert not odd, "\n".join(odd)


def test_each_room_says_what_it_is_for() -> None:
    rooms = [module for module in list_modules() if module.path.name == "__init__.py"]
    assert [module.name for module in rooms if not ast.get_docstring(module.tree)] == []


def test_the_glossary_is_short() -> None:
    words = read_glossary()
    assert len(set(words)) == len(words)
    assert 0 < len(words) <= MAX_WORDS


def test_the_architecture_names_every_room() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rooms = {module.name.split(".")[1] for module in list_modules() if "." in module.name}
    assert {room for room in rooms if room not in page} == set()
