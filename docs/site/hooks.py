"""Pages of the site that are made from the code and the README: the home page, commands and functions."""

import inspect
import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[^)]*\)")  # links to files that are no pages


def on_files(files, config):
    """Add the pages that are made here."""
    pages = {"index.md": _home(), "commands.md": _commands(), "functions.md": _functions()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown, **_):
    """Leave out links to files of the project that are no pages."""
    return OUTSIDE.sub(r"\1", markdown)


def _home():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\[([^\]]+)\]\((?:CONTRIBUTING|CHANGELOG)\.md\)|\[([^\]]+)\]\(LICENSE\)", r"\1\2", text)


def _commands():
    from ppodd.cli.main import COMMANDS, parser_of

    os.environ["COLUMNS"] = "100"
    parts = ["# Commands", "Made from the code, as `--help` prints it."]
    for command, text in COMMANDS.items():
        shown = io.StringIO()
        with redirect_stdout(shown):
            parser_of(command).print_help()
        parts += [f"## ppodd {command}", f"{text[0].upper()}{text[1:]}.", f"```text\n{shown.getvalue().strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _functions():
    import ppodd

    parts = ["# Functions", "What `import ppodd` offers, made from the code; [how to use it](python.md)."]
    for name in dir(ppodd):
        thing = getattr(ppodd, name)
        signature = f"```python\n{name}{inspect.signature(thing)}\n```" if inspect.isfunction(thing) else ""
        parts += [f"## ppodd.{name}", signature, _doc(thing)]
        for method, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not method.startswith("_") and (doc := inspect.getdoc(value)):
                parts.append(f"- `{method}`: {doc.splitlines()[0]}")
    return "\n\n".join(parts) + "\n"


def _doc(thing):
    return re.sub(r"^ +", "    ", inspect.getdoc(thing) or "", flags=re.MULTILINE)
