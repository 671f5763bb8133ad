"""A YAML document whose errors name the line; nothing here knows what it is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from ppodd.errors import BadInput
from tune.sweep_file.space import Path_

_MOST_VALUES = 100_000  # which a few aliases of aliases make thousands of millions of


class Loader(yaml.SafeLoader):
    """YAML as people mean it: 6:00 and 2024-05-01 are text, not 360 minutes and a date."""


def _unless_a_time(number: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda loader, node: node.value if ":" in node.value else number(loader, node)


Loader.add_constructor("tag:yaml.org,2002:int", _unless_a_time(yaml.SafeLoader.construct_yaml_int))
Loader.add_constructor("tag:yaml.org,2002:float", _unless_a_time(yaml.SafeLoader.construct_yaml_float))
Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


class Document:
    """A YAML mapping: its values, and for errors the line of each key and what `--set` put in its place.

    Making one raises `BadInput` where the file cannot be read, is no YAML, has a key twice or no end.
    """

    def __init__(self, path: Path):
        self.path = path
        self.lines: dict[Path_, int] = {}
        self.overrides: dict[Path_, str] = {}  # keys that `--set` put there
        try:
            text = path.read_text(encoding="utf-8")
            node, self.values = yaml.compose(text, Loader=Loader), yaml.load(text, Loader=Loader)
        except OSError as error:
            raise BadInput(f"cannot read sweep file {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BadInput(f"sweep file {path} is no UTF-8 text") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" line {mark.line + 1}" if mark else ""
            raise BadInput(f"{path}{where}: no valid YAML: {getattr(error, 'problem', error)}") from None
        except RecursionError:
            raise BadInput(f"{path}: no sweep file is nested that deep") from None
        if not isinstance(self.values, dict):
            raise BadInput(f"{path}: a sweep file is a mapping of keys such as name, preset, grid, seeds")
        try:
            self._visit(node, ())
        except RecursionError:
            raise BadInput(f"{path}: an alias (*…) stands within what it is an alias of: write the value out") from None

    def _visit(self, node: Any, path: Path_) -> None:
        if len(self.lines) > _MOST_VALUES:
            raise BadInput(f"{self.path}: more than {_MOST_VALUES} values, written out: a sweep file has fewer")
        if isinstance(node, yaml.ScalarNode) and any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise BadInput(f"{self.path} line {node.start_mark.line + 1}: {node.value!a} is no UTF-8 text")
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(key.value))
                if here in self.lines:
                    raise BadInput(f"{self.path} line {key.start_mark.line + 1}: key {key.value!r} appears twice")
                self.lines[here] = key.start_mark.line + 1
                self._visit(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                here = (*path, str(number))
                self.lines[here] = value.start_mark.line + 1
                self._visit(value, here)

    def error(self, path: Sequence[Any], message: str) -> BadInput:
        """The error at the deepest key of `path` that has a line, or that `--set` gave a value."""
        there = tuple(map(str, path))
        if there[:2] == ("evaluation", "0") and there[:2] not in self.lines:
            there = ("evaluation", *there[2:])  # the one evaluation, written without a list
        while there and there not in self.lines and there not in self.overrides:
            there = there[:-1]
        if there in self.overrides:
            return BadInput(f"--set {self.overrides[there]!r}: {message}")
        line = f" line {self.lines[there]}" if there else ""
        return BadInput(f"{self.path}{line}: {message}")
