"""Imports point one way, cross sub-packages by their faces, and leave what is heavy to those whom it is for."""

import ast
import importlib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ppodd", "results", "cluster", "tune")  # each may import those before it
# these know all of them, and import each when a command or a call needs it
COMMAND_LINE, API = "ppodd.cli", "ppodd.api"
# what each does without
APART = {"ppodd": {"ray", "mlflow", "pandas"}, "results": {"ray"}, "cluster.dispatch": {"ray", "mlflow"}}
FILES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


class Import(NamedTuple):
    """`name` out of module or package `source`, imported by `module`; `lazy` inside a function, or for types alone."""

    module: str
    source: str
    name: str
    lazy: bool


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}
ROOMS = {module for module, path in MODULES.items() if path.with_suffix(".pyi").is_file()} - {
    "ppodd"
}  # the API's names


def imports_below(node, module, lazy=False):
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef) or (isinstance(child, ast.If) and _for_types(child))
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, "", inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(module, child.module, alias.name, inside) for alias in child.names)
        else:
            yield from imports_below(child, module, inside)


def _for_types(node):
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


IMPORTS = [found for module, path in MODULES.items() for found in imports_below(ast.parse(path.read_text()), module)]
OURS = [found for found in IMPORTS if found.source.split(".")[0] in PACKAGES]


def room_of(module):
    """The sub-package that a module is in: the longest of its parents that has a face; else itself."""
    parents = [module.rsplit(".", n)[0] for n in range(module.count(".") + 1)]
    return next((parent for parent in parents if parent in ROOMS), module)


def listed(room):
    """The names on a sub-package's face."""
    tree = ast.parse(MODULES[room].with_suffix(".pyi").read_text())
    return [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]


def knows_all(module):
    return f"{module}.".startswith((f"{COMMAND_LINE}.", f"{API}.")) or module == "ppodd.__main__"


def said(imports):
    return sorted(f"{found.module}: {found.source} {found.name}" for found in imports)


def test_imports_point_from_tune_to_cluster_to_results_to_the_method():
    def backward(found):
        return PACKAGES.index(found.source.split(".")[0]) > PACKAGES.index(found.module.split(".")[0])

    assert not said(found for found in OURS if backward(found) and not (knows_all(found.module) and found.lazy))


def test_none_but_the_command_line_and_the_api_import_them():
    assert not said(found for found in OURS if knows_all(found.source) and not knows_all(found.module))


def test_the_method_needs_no_ray_mlflow_or_pandas_and_results_and_the_dispatcher_no_ray():
    def apart(found):
        without = [names for package, names in APART.items() if f"{found.module}.".startswith(f"{package}.")]
        return any(found.source.split(".")[0] in names for names in without)

    assert not said(found for found in IMPORTS if apart(found) and not (knows_all(found.module) and found.lazy))


def test_another_sub_package_is_imported_by_its_face():
    """`from ppodd.posters import Layout`, and no module of it by its own name."""

    def around_the_face(found):
        room = room_of(found.source)
        inside = f"{found.module}.".startswith(f"{room}.")
        return room in ROOMS and not inside and (found.source != room or found.name not in listed(room))

    assert not said(found for found in OURS if around_the_face(found))


def test_inside_a_sub_package_modules_are_named():
    """Not its own face, which imports them."""

    def by_the_face(found):
        return found.source == room_of(found.module) in ROOMS and f"{found.source}.{found.name}" not in MODULES

    assert not said(found for found in OURS if by_the_face(found))


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_name_on_a_face_is_there(room):
    module = importlib.import_module(room)
    assert sorted(module.__all__) == sorted(listed(room))
    assert all(hasattr(module, name) for name in listed(room))


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_function_on_a_face_is_called_as_a_module_there(room):
    """Whoever imports that module sets it on the package, in place of the function."""
    tree = ast.parse(MODULES[room].with_suffix(".pyi").read_text())
    functions = [alias.name for node in tree.body if node.module for alias in node.names]
    assert not [name for name in functions if f"{room}.{name}" in MODULES]


def test_a_class_that_others_use_is_the_only_one_of_its_name():
    classes = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in classes.items() if len(modules) > 1} == {}


def refuse_circles(needs):
    try:
        TopologicalSorter({name: sources - {name} for name, sources in needs.items()}).prepare()
    except CycleError as circle:
        raise AssertionError(" ← ".join(circle.args[1])) from None


def test_no_circles_between_sub_packages():
    """Whoever reads one may read what it imports first; what is imported within a function counts as well."""
    needs = {room: set() for room in sorted({room_of(module) for module in MODULES})}
    for found in OURS:
        if not knows_all(found.module):
            needs[room_of(found.module)].add(room_of(found.source))
    refuse_circles(needs)


def test_no_circles_between_modules():
    needs = {module: set() for module in MODULES}
    for found in OURS:
        whole = f"{found.source}.{found.name}"
        needs[found.module].add(whole if whole in MODULES else found.source)
    try:
        TopologicalSorter(
            {m: {n for n in sources if n not in ROOMS and n != m} for m, sources in needs.items()}
        ).prepare()
    except CycleError as circle:
        raise AssertionError(" ← ".join(circle.args[1])) from None
