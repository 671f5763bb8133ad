"""What a user names: one registry for each kind, from which accepted names, help and errors come.

A name is one of ours, one that an installed package registers in the entry-point group of its kind, or the import path
`module:function` of the user's own. Code is imported when it is first needed, so that help and checks are light.
"""

from __future__ import annotations

import functools
import importlib
import re
import reprlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, TypeVar

from ppodd.errors import BadInput, PpoddError, near_miss, one_line, unknown
from ppodd.failures import user_place
from ppodd.source_digest import source_digest

_IMPORT_PATH = re.compile(r"[\w.]+:[\w.]+")
OWN = "module:function"  # how help writes the user's own


@dataclass(frozen=True)
class Entry:
    """One thing that has a name. A kind that must know more of it before its code is imported derives from this.

    Attributes:
        target: the function, or its import path.
        summary: what it is, in a few words of help.
    """

    target: str | Callable[..., Any]
    summary: str = ""

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself, imported when it is first asked for."""
        return _resolved(self.target) if isinstance(self.target, str) else self.target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; an error out of a user's own says where in it."""
        function = self.function
        with located(function):
            return function(*args, **kwargs)


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """The entries of one kind.

    Args:
        what: the kind, as errors call it.
        kind: the class of its entries; made of the function alone where a user registers one. A user who has more to
            say of it registers an instance.
        group: the entry-point group in which packages register theirs.
        accepted: the signature of its functions, and what they return.
        own: the entries that come with ppodd.
        also: what else is accepted where such a name is asked for, as help and errors write it.
        within: the names in what is given there: all of it, unless said otherwise.
    """

    def __init__(
        self,
        what: str,
        kind: type[E],
        group: str,
        accepted: str,
        own: Mapping[str, E],
        also: Sequence[str] = (),
        within: Callable[[str], Sequence[str]] = lambda given: [given],
    ):
        self.what, self.kind, self.group, self.accepted, self.own = what, kind, group, accepted, dict(own)
        self.also, self.within = (*also, f"{OWN} of your own"), within

    @property
    def names(self) -> tuple[str, ...]:
        """All names, ours first."""
        return (*self.own, *(name for name in sorted(self._installed()) if name not in self.own))

    @property
    def listing(self) -> str:
        """What is accepted, for help."""
        *most, last = (*self.names, *self.also)
        return f"{', '.join(most)} or {last}"

    def check(self, given: str) -> str:
        """`given`, where each name in it is a known one or an import path; imports nothing.

        Raises:
            BadInput: one is neither.
        """
        for name in self.within(given):
            if name not in self.own and not is_import_path(name) and name not in self._installed():
                raise self.unknown(name)
        return given

    def unknown(self, name: str) -> BadInput:
        """The error for a name that is none."""
        return unknown(self.what, name, self.names, also=self.also)

    def get(self, name: str) -> E:
        """The entry of a name; a user's own is imported.

        Raises:
            BadInput: there is none, it does not import, or it is not callable.
        """
        if name in self.own:
            return self.own[name]
        path = name if is_import_path(name) else self._installed().get(name)
        if path is None:
            raise self.unknown(name)
        found = self._imported(name, path)
        return found if isinstance(found, self.kind) else self.kind(target=found)

    def known(self, name: str) -> E:
        """What is known of a name without importing anything: of a user's own only what its kind is by default."""
        return self.own.get(name) or self.kind(target=name)

    def source(self, name: str) -> str:
        """A digest of the code of a user's own, as it is now; nothing for ours, or where it is not found."""
        path = None if name in self.own else name if is_import_path(name) else self._installed().get(name)
        return source_digest(path.partition(":")[0]) if path else ""

    def check_source(self, name: str, source: str) -> None:
        """Raise `BadInput` where the code that this process has imported by a name is not of this digest."""
        self.get(name)
        here = _imported_as.get(name, "")
        if source and here and here != source:
            raise BadInput(
                f"{self.what} {name!r} was edited since this process imported it: start it anew (evaluators: "
                f"`ppodd evaluators stop`)"
            )

    def returned(self, name: str, value: Any, asked: str = "") -> BadInput:
        """The error for a `value` that an entry returned for what it was `asked`, and that is none of its kind."""
        shape = getattr(value, "shape", None)
        said = reprlib.repr(value) if shape is None else f"a {type(value).__name__} of shape {tuple(shape)}"
        return self.wrong(name, f"returned {said}{f' for {asked}' if asked else ''}")

    @contextmanager
    def tried(self, name: str) -> Iterator[bool]:
        """Whether `name` is a user's own, which the block then tries: any error of it says what is accepted.

        Raises:
            BadInput: it cannot be imported, or the block raised.
        """
        own = name not in self.own
        if own:
            self.get(name)
        try:
            yield own
        except PpoddError:
            raise
        except Exception as error:  # a user's code may raise anything
            if not own:
                raise
            raise self.wrong(name, f"fails when it is tried: {one_line(error)}") from error

    def wrong(self, name: str, what: str) -> BadInput:
        """The error for an entry that is not of its kind: what of it is wrong, and what is accepted."""
        return BadInput(f"{self.what} {name!r} {what}; accepted is {self.accepted}")

    def _installed(self) -> dict[str, str]:
        """Import paths of what installed packages register, by name."""
        return _entry_points(self.group, tuple(sys.path))

    def _imported(self, name: str, path: str) -> Any:
        module, _, attribute = path.partition(":")
        try:
            _imported_as.setdefault(name, self.source(name))
            found = importlib.import_module(module)
        except Exception as error:  # a user's module may raise anything
            raise BadInput(
                f"{self.what} {name!r}: cannot import {module}: {one_line(error)}{_place_of_import(error, module)}; "
                f"accepted is {self.accepted}"
            ) from error
        try:
            for part in attribute.split("."):
                found = getattr(found, part)
        except AttributeError:
            near = near_miss(attribute, [public for public in dir(found) if not public.startswith("_")])
            raise BadInput(
                f"{self.what} {name!r}: {module} has no {attribute}{near}; accepted is {self.accepted}"
            ) from None
        if not isinstance(found, self.kind) and not callable(found):
            raise self.wrong(name, f"is {found!r}")
        return found


def is_import_path(name: str) -> bool:
    """Whether `name` is written as `module:attribute`."""
    return _IMPORT_PATH.fullmatch(name) is not None


@contextmanager
def located(code: Any) -> Iterator[None]:
    """Errors raised by a user's `code` (a function, class or instance) say in a note in which file and line."""
    try:
        yield
    except Exception as error:
        if not _is_ours(code) and not getattr(error, "__notes__", None):
            error.add_note(user_place(error.__traceback__) or _place_in(code, error))
        raise


def _is_ours(code: Any) -> bool:
    return str(getattr(code, "__module__", "")).partition(".")[0] == "ppodd"


def _place_in(code: Any, error: BaseException) -> str:
    """`file:line` where a user's `code` raised, else where it is defined: it may not even take its arguments."""
    file = getattr(sys.modules.get(code.__module__), "__file__", None) or code.__module__
    first = getattr(getattr(code, "__code__", None), "co_firstlineno", None)
    return _place(error, file) or (file if first is None else f"{file}:{first}")


def _place(error: BaseException, file: str) -> str:
    """`file:line` of the last frame of the error's trace that is in `file`; empty where none is."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}:{lines[-1]}" if lines else ""


def _place_of_import(error: Exception, module: str) -> str:
    """Where in the user's file an import failed; nothing where the file itself was not found."""
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return ""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno})"
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    theirs = [file for file in files if file != __file__ and "importlib" not in file]
    return f" ({_place(error, theirs[0])})" if theirs else ""


_imported_as: dict[str, str] = {}  # what the code of a name was when this process imported it


@functools.cache
def _resolved(path: str) -> Callable[..., Any]:
    module, _, attribute = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


@functools.cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, str]:
    """Names and import paths that the packages on `path` (of `sys.path`, which may change) register in a group."""
    del path
    return {point.name: point.value for point in metadata.entry_points(group=group)}
