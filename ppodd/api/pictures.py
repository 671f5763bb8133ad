"""Pictures that notebooks show and files hold."""

from __future__ import annotations

from pathlib import Path

from ppodd.files import atomic_write


class ShownImage(bytes):
    """The bytes of a PNG or GIF; a notebook shows it."""

    def __repr__(self) -> str:
        return f"<{'GIF' if self.startswith(b'GIF') else 'PNG'} picture, {len(self):,} bytes>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, bytes]:
        return {"image/gif" if self.startswith(b"GIF") else "image/png": bytes(self)}

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all."""
        atomic_write(path, bytes(self))
        return Path(path)
