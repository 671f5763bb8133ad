"""Tables to files: data for other programs as CSV or Parquet, pages for people as LaTeX or Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ppodd.errors import BadInput
from ppodd.files import atomic_path
from results.reporting.tables import as_cells, as_text

DATA = (".csv", ".parquet")  # every digit, every column
PAGES = (".tex", ".md")  # as shown on screen
FORMATS = (*DATA, *PAGES)


def is_page(path: str) -> bool:
    """Whether a file of this ending is to be read by people. Raises `BadInput` for an ending that is not known."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise BadInput(f"cannot write {path!r}: accepted are files that end in {', '.join(FORMATS)}")
    return suffix in PAGES


def export(tables: pd.DataFrame | Mapping[str, pd.DataFrame], path: str, notes: Sequence[str] = ()) -> None:
    """Write a table, or several by name, in the format that the file's ending names, whole or not at all.

    Several are one in a data file, whose column `table` names them, and stand below each other on a page. Notes go on
    pages only.
    """
    is_page(path)
    suffix = Path(path).suffix.lower()
    several = {"": tables} if isinstance(tables, pd.DataFrame) else {k: v for k, v in tables.items() if len(v)}
    with atomic_path(path) as temporary:
        if suffix in DATA:
            data = tables if isinstance(tables, pd.DataFrame) else _joined(several)
            data.to_csv(temporary, index=False) if suffix == ".csv" else data.to_parquet(temporary, index=False)
            return
        if suffix == ".md":
            text = "\n\n".join(as_text(table, markdown=True) for table in several.values())
            text += "\n".join(["\n", *(f"- {note}" for note in notes)])
        else:
            text = "\n".join(latex(table, notes) for table in several.values())
        Path(temporary).write_text(text, encoding="utf-8")


def _joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables as one, which has the columns of all."""
    named = [table.astype(object).assign(table=name) for name, table in tables.items()]
    columns = dict.fromkeys(column for table in tables.values() for column in table.columns)
    return pd.concat(named, ignore_index=True)[["table", *columns]].infer_objects()


def latex(table: pd.DataFrame, notes: Sequence[str]) -> str:
    """A `booktabs` tabular with its notes as comments, so that what must be said travels with the numbers."""
    columns = [_tex(str(name)) for name in table.columns]
    rows = zip(*(as_cells(table[name]) for name in table.columns), strict=True)
    lines = [" & ".join(columns), *(" & ".join(map(_tex, row)) for row in rows)]
    head, *body = [f"{line} \\\\" for line in lines]
    comments = [f"% {note}" for note in ("needs \\usepackage{booktabs}", *notes)]
    begin = f"\\begin{{tabular}}{{{'r' * len(columns)}}}"
    return "\n".join([*comments, begin, "\\toprule", head, "\\midrule", *body, "\\bottomrule", "\\end{tabular}", ""])


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "−": "$-$", "×": r"$\times$",
    "→": r"$\to$", "…": r"\ldots{}", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
