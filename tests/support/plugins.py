"""Code of a user's own, as modules on the path and as installed packages."""

import sys
import uuid


def user_module(folder, monkeypatch, code):
    """The name of a new module of that code, on the path."""
    name = f"theirs_{uuid.uuid4().hex[:8]}"
    (folder / f"{name}.py").write_text(code)
    if str(folder) not in sys.path:
        monkeypatch.syspath_prepend(folder)
    return name


def installed_package(folder, monkeypatch, code, entry_points):
    """The name of a new module of that code, installed with entry points: `{group: {name: attribute}}`."""
    module = user_module(folder, monkeypatch, code)
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [
        line
        for group, names in entry_points.items()
        for line in (f"[{group}]", *(f"{name} = {module}:{attribute}" for name, attribute in names.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return module
