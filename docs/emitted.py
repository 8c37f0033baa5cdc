"""Which operators, or kernels, the functions of a table may write: found in their source, without running them.

The tables of the readers and of compile hold functions, most of them made by another one for several entries
(``layer("conv2d", ...)``). What an entry writes stands in calls such as ``reader.emit("conv2d", ...)``. This follows
an entry through the functions that it calls in its package, with the values that names are known to have there, and
collects the first argument of those calls. Branches that are decided by such values are followed one way, others both.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from importlib import import_module
from types import FunctionType, SimpleNamespace
from typing import Any

__all__ = ["Emitted"]

_DEPTH = 12
_UNKNOWN = object()


class Emitted:
    """Looks for what functions write.

    Parameters
    ----------
    package
        Only functions of this package are followed.
    sinks
        The names of the calls whose first argument is looked for.
    known
        What it may be.
    other
        What stands for a first argument of which nothing is known.
    methods
        Attribute of any object -> the class whose methods are followed when they are called on it: that of
        ``reader.builder``.
    """

    def __init__(
        self,
        package: str,
        sinks: Collection[str],
        known: Collection[str],
        *,
        other: str | None = None,
        methods: Mapping[str, type] | None = None,
    ) -> None:
        self.package, self.sinks, self.known, self.other = package, sinks, known, other
        self.methods = methods or {}

    def of(self, function: Callable[..., Any], **bound: Any) -> set[str]:
        """Return what a function may write; `bound` are arguments that are known."""
        found: set[str] = set()
        if isinstance(function, FunctionType):
            _Walk(self, function, {name: [value] for name, value in bound.items()}, found, 0).run()
        return found


class _Walk(ast.NodeVisitor):
    """One call of one function. Values of an expression are a list: empty where nothing is known."""

    def __init__(
        self, emitted: Emitted, function: FunctionType, bound: Mapping[str, list[Any]], found: set[str], depth: int
    ) -> None:
        self.emitted, self.function, self.found, self.depth = emitted, function, found, depth
        self.node = _source(function)
        self.names: dict[str, list[Any]] = {name: [] for name in function.__code__.co_varnames}
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        self.names |= {name: [cell.cell_contents] for name, cell in cells}
        self.names |= bound
        self.assigned: dict[str, list[tuple[ast.expr, int | None]]] = {}
        for part in ast.walk(self.node):
            self._assign(part)

    def _assign(self, part: ast.AST) -> None:
        if isinstance(part, ast.ImportFrom):
            module = import_module("." * part.level + (part.module or ""), self.function.__globals__["__package__"])
            self.names |= {alias.asname or alias.name: [getattr(module, alias.name)] for alias in part.names}
        elif isinstance(part, ast.Assign):
            for target in part.targets:
                if isinstance(target, ast.Name):
                    self.assigned.setdefault(target.id, []).append((part.value, None))
                elif isinstance(target, ast.Tuple):
                    for i, item in enumerate(target.elts):
                        if isinstance(item, ast.Name):
                            self.assigned.setdefault(item.id, []).append((part.value, i))

    def run(self) -> None:
        for statement in self.node.body:
            self.visit(statement)

    # What is looked for --------------------------------------------------------------------------

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        truth = self.truth(node.test)
        for statement in (*(node.body if truth is not False else ()), *(node.orelse if truth is not True else ())):
            self.visit(statement)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        for branch in self.branches(node):
            self.visit(branch)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        callee = node.func
        name = callee.attr if isinstance(callee, ast.Attribute) else getattr(callee, "id", "")
        if name in self.emitted.sinks and node.args:
            values = self.values(node.args[0]) or [self.emitted.other]
            self.found.update(
                x for x in values if isinstance(x, str) and (x in self.emitted.known or x == self.emitted.other)
            )
        elif self.depth < _DEPTH:
            for function in self.functions(callee):
                _Walk(self.emitted, function, self.arguments(node, function), self.found, self.depth + 1).run()

    def functions(self, callee: ast.expr) -> Iterator[FunctionType]:
        """Yield the functions of the package that a call may be of."""
        if isinstance(callee, ast.Attribute) and isinstance(callee.value, ast.Attribute):
            owner = self.emitted.methods.get(callee.value.attr)
            method = getattr(owner, callee.attr, None)
            if isinstance(method, FunctionType):
                yield method
                return
        for value in self.values(callee):
            if isinstance(value, FunctionType) and value.__module__.startswith(self.emitted.package):
                yield value

    def arguments(self, node: ast.Call, function: FunctionType) -> dict[str, list[Any]]:
        """Return what is known of a call's arguments, by their names in the function."""
        parameters = list(inspect.signature(function).parameters.values())
        if parameters and parameters[0].name == "self":
            parameters = parameters[1:]
        starred = any(isinstance(arg, ast.Starred) for arg in node.args)
        defaults = {p.name: [p.default] for p in parameters if p.default is not p.empty and not starred}
        given: dict[str, list[Any]] = {}
        for parameter, arg in zip(parameters, node.args, strict=False):
            if isinstance(arg, ast.Starred) or parameter.kind == parameter.VAR_POSITIONAL:
                break
            given[parameter.name] = self.values(arg)
        names = {parameter.name for parameter in parameters}
        if (
            parameters
            and parameters[-1].kind == inspect.Parameter.VAR_KEYWORD
            and all(item.arg in names for item in node.keywords)
        ):
            given[parameters[-1].name] = [{}]
        return defaults | given | {item.arg: self.values(item.value) for item in node.keywords if item.arg}

    # What is known -------------------------------------------------------------------------------

    def branches(self, node: ast.IfExp) -> list[ast.expr]:
        truth = self.truth(node.test)
        return [node.body] if truth else [node.orelse] if truth is False else [node.body, node.orelse]

    def truth(self, test: ast.expr) -> bool | None:
        """Return what a condition is, None where that is not known."""
        if isinstance(test, ast.Name) and self.values(test) == [{}]:  # no keywords were given
            return False
        if not isinstance(test, ast.Compare) or len(test.ops) != 1:
            return None
        left, right = self.values(test.left), self.values(test.comparators[0])
        if len(left) != 1 or len(right) != 1:
            return None
        if _UNKNOWN in (*_flat(left[0]), *_flat(right[0])):
            return None
        if isinstance(test.ops[0], ast.Eq):
            return bool(left[0] == right[0])
        if isinstance(test.ops[0], ast.In) and isinstance(right[0], (tuple, dict)):
            return left[0] in right[0]
        return None

    def values(self, node: ast.expr) -> list[Any]:
        """Return what an expression may be; nothing where that is not known."""
        if isinstance(node, ast.Constant):
            return [node.value]
        if isinstance(node, ast.Name):
            return self.named(node.id)
        if isinstance(node, ast.IfExp):
            return [value for branch in self.branches(node) for value in self.values(branch)]
        if isinstance(node, ast.Attribute):
            return [getattr(base, node.attr) for base in self.values(node.value) if _holds(base, node.attr)]
        if isinstance(node, ast.Subscript):
            keys = self.values(node.slice)
            return [item for base in self.values(node.value) for item in _items(base, keys)]
        if isinstance(node, ast.Tuple):
            parts = [self.values(item) for item in node.elts]
            return [tuple(part[0] if len(part) == 1 else _UNKNOWN for part in parts)]
        if isinstance(node, ast.Dict):
            pairs = [
                (self.values(key), self.values(item)) for key, item in zip(node.keys, node.values, strict=True) if key
            ]
            return [{key[0]: item[0] for key, item in pairs if key and item}]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return [-value for value in self.values(node.operand) if isinstance(value, (int, float))]
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
        ):
            keys = self.values(node.args[0])
            return [item for base in self.values(node.func.value) for item in _items(base, keys)]
        if isinstance(node, ast.Call) and self.depth < _DEPTH:
            return [value for function in self.functions(node.func) for value in self.returned(node, function)]
        return []

    def named(self, name: str) -> list[Any]:
        known = self.function.__globals__
        values = list(self.names.get(name, [known[name]] if name in known else []))
        for expression, place in self.assigned.get(name, ()):
            if any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(expression)):
                continue  # of itself
            found = self.values(expression)
            values += found if place is None else [x[place] for x in found if isinstance(x, tuple) and place < len(x)]
        return values

    def returned(self, node: ast.Call, function: FunctionType) -> list[Any]:
        """Return what a call may give."""
        walk = _Walk(self.emitted, function, self.arguments(node, function), set(), self.depth + 1)
        return [value for result in walk.results(walk.node.body) for value in walk.values(result)]

    def results(self, statements: list[ast.stmt]) -> Iterator[ast.expr]:
        """Yield what a function returns, without branches that are not taken, up to one that always is."""
        for statement in statements:
            if isinstance(statement, ast.Return):
                if statement.value:
                    yield statement.value
                return
            if isinstance(statement, ast.If):
                truth = self.truth(statement.test)
                if truth is not False:
                    yield from self.results(statement.body)
                if truth is True:
                    return
                yield from self.results(statement.orelse)


def _flat(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _holds(base: Any, name: str) -> bool:
    """Whether an object has data of that name; a method of any class says nothing."""
    return (
        name in getattr(base, "__slots__", ())
        or name in getattr(base, "_fields", ())
        or (isinstance(base, SimpleNamespace) and hasattr(base, name))
    )


def _items(base: Any, keys: list[Any]) -> list[Any]:
    """The items of a mapping under keys; all of them where no key is known."""
    if not isinstance(base, dict):
        return []
    return [base[key] for key in keys if key in base] if keys else list(base.values())


@cache
def _functions(file: str) -> dict[int, ast.FunctionDef]:
    """Return first line, decorators included -> function."""
    with open(file, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {min([node.lineno, *(item.lineno for item in node.decorator_list)]): node for node in nodes}


def _source(function: FunctionType) -> ast.FunctionDef:
    return _functions(function.__code__.co_filename)[function.__code__.co_firstlineno]
