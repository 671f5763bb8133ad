"""Registries: names of ours, of installed packages and by import path; each error is one line."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
from plugins import installed_package, user_module

from ppodd.errors import BadInput, one_line
from ppodd.registry import Entry, Registry


@dataclass(frozen=True)
class Weighted(Entry):
    weight: int = 1


SORTERS = Registry(
    "sorter",
    Weighted,
    "ppodd_test.sorters",
    "a function of a list that returns a list",
    {"rising": Weighted(sorted, "small to large"), "heap": Weighted("heapq:nsmallest", weight=3)},
)


def test_ours_are_found_by_name_and_imported_when_they_are_called():
    assert SORTERS.get("rising")([2, 1]) == [1, 2]
    assert SORTERS.get("heap").weight == 3
    assert SORTERS.get("heap")(1, [2, 1]) == [1]


def test_a_function_is_found_by_its_import_path(tmp_path, monkeypatch):
    module = user_module(tmp_path, monkeypatch, "def falling(x): return sorted(x, reverse=True)")
    name = f"{module}:falling"
    assert SORTERS.check(name) == name
    assert SORTERS.get(name) == Weighted(sys.modules[module].falling)
    assert SORTERS.get(name)([1, 2]) == [2, 1]


def test_who_has_more_to_say_registers_an_entry(tmp_path, monkeypatch):
    code = f"from {__name__} import Weighted\nheavy = Weighted(sorted, weight=9)"
    assert SORTERS.get(f"{user_module(tmp_path, monkeypatch, code)}:heavy").weight == 9


def test_an_installed_package_registers_names(tmp_path, monkeypatch):
    code = "def falling(x): return sorted(x, reverse=True)\ndef rising(x): raise AssertionError"
    installed_package(tmp_path, monkeypatch, code, {SORTERS.group: {"falling": "falling", "rising": "rising"}})
    assert SORTERS.names == ("rising", "heap", "falling")
    assert "falling" in SORTERS.listing
    assert SORTERS.get(SORTERS.check("falling"))([1, 2]) == [2, 1]
    assert SORTERS.get("rising")([2, 1]) == [1, 2]  # what a name of ours means, no package changes


def test_a_near_miss_lists_what_is_accepted(tmp_path, monkeypatch):
    installed_package(tmp_path, monkeypatch, "falling = sorted", {SORTERS.group: {"falling": "falling"}})
    for find in (SORTERS.check, SORTERS.get):
        with pytest.raises(BadInput) as error:
            find("fallin")
        assert str(error.value) == (
            "unknown sorter 'fallin'; did you mean 'falling'? "
            "(accepted: falling, heap, rising, module:function of your own)"
        )


@pytest.mark.parametrize(
    ("code", "attribute", "said"),
    [
        (None, "f", "sorter '{path}': cannot import {module}: ModuleNotFoundError: No module named '{module}'; "),
        ("def fall(): pass", "fal", "sorter '{path}': {module} has no fal; did you mean 'fall'?; "),
        ("fall = 3", "fall", "sorter '{path}' is 3; "),
        (
            "import math\n\n1 / 0",
            "f",
            "sorter '{path}': cannot import {module}: ZeroDivisionError: division by zero ({file}:3); ",
        ),
        ("\nimport absent_module", "f", "No module named 'absent_module' ({file}:2); "),
        ("def f(:", "f", "({file}:1); "),
    ],
)
def test_what_cannot_be_had_is_one_line_with_the_signature(tmp_path, monkeypatch, code, attribute, said):
    module = user_module(tmp_path, monkeypatch, code) if code else "theirs_nowhere"
    path = f"{module}:{attribute}"
    assert SORTERS.check(path) == path
    with pytest.raises(BadInput) as error:
        SORTERS.get(path)
    said = said.format(path=path, module=module, file=tmp_path / f"{module}.py")
    assert said + "accepted is a function of a list that returns a list" in str(error.value)


def test_an_error_in_a_users_function_says_its_file_and_line(tmp_path, monkeypatch):
    code = "import heapq\n\ndef f(x):\n    return heapq.nsmallest(1, x)\n"
    module = user_module(tmp_path, monkeypatch, code)
    with pytest.raises(TypeError) as error:
        SORTERS.get(f"{module}:f")(3)
    assert one_line(error.value) == f"TypeError: 'int' object is not iterable ({module}.py:4, in f)"


def test_help_imports_nothing_of_what_it_lists():
    code = (
        "import sys; from ppodd.registry import Entry, Registry; "
        "print(Registry('x', Entry, 'ppodd.x', '', {'a': Entry('ppodd.training.networks:ConvNet')}).listing); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
