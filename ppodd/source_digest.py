"""A digest of a user's code: a module's file and those beside it that it imports, found without importing any."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from ppodd.own_packages import NAMES

_OURS = frozenset(("ppodd", *NAMES))
_INSTALLED = frozenset(("site-packages", "dist-packages"))


def source_digest(module: str) -> str:
    """The digest of a module as it is written now; nothing where it is not there, or has no file."""
    try:
        spec = importlib.util.find_spec(module)
        file = Path(spec.origin) if spec and spec.origin else None
        if file is None:
            return ""
        digest = hashlib.sha256(file.read_bytes())
        for name, path in sorted(_imported_beside(module, file).items()):
            digest.update(f"\0{name}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]
    except (ImportError, ValueError, AttributeError, OSError):
        return ""


def _root_of(module: str, file: Path) -> Path | None:
    """The folder from which a module of this name is imported; `None` where its file lies elsewhere."""
    depth = module.count(".") + (file.name == "__init__.py")
    root = file.parents[depth] if depth < len(file.parents) else None
    return root if root and _file_of(root, module) == file else None


def _installed_with(root: Path, file: Path) -> frozenset[str] | None:
    """The modules and packages that were installed with a file, by their record; `None` where it was not installed."""
    line = f"\n{file.relative_to(root).as_posix()},"
    for record in root.glob("*.dist-info/RECORD"):
        text = ""
        with contextlib.suppress(OSError):
            text = "\n" + record.read_text(encoding="utf-8", errors="replace")
        if line in text:
            return frozenset(re.split(r"[/,.]", entry, maxsplit=1)[0] for entry in text.splitlines())
    return frozenset() if _INSTALLED & {*root.parts} else None


def _imported_beside(module: str, file: Path) -> dict[str, Path]:
    """The files that a module imports, and these in turn: from beside it, or of what it was installed with.

    Imports are found wherever they are written, also in functions.
    """
    root = _root_of(module, file)
    if root is None:
        return {}
    top, beside = module.partition(".")[0], _installed_with(root, file)
    found = {module: file}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        for imported in _imports(name, found[name]):
            parts = imported.split(".")
            if parts[0] in _OURS or (parts[0] != top and beside is not None and parts[0] not in beside):
                continue
            for each in (".".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
                if each not in found and (path := _file_of(root, each)):
                    found[each] = path
                    waiting.append(each)
    del found[module]
    return found


def _imports(module: str, file: Path) -> Iterator[str]:
    """The whole names of the modules that a file imports, and of what else may be one."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # it is not Python, or none that can be imported
        return
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *((node.module or "").split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _file_of(root: Path, module: str) -> Path | None:
    place = root.joinpath(*module.split("."))
    return next((path for path in (place / "__init__.py", place.with_name(f"{place.name}.py")) if path.is_file()), None)
