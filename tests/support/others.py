"""Modules of a user's own that have the names of ppodd's packages, and say so when they are imported."""

NAMES = ("results", "cluster", "tune")


def put_in_the_way(folder):
    """A package `results`, a package `cluster` and a file `tune.py` in the folder."""
    for path in (folder / "results/__init__.py", folder / "cluster/__init__.py", folder / "tune.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('the user\\'s own was imported')\n")
