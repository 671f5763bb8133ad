"""Tables to files: data for other programs as CSV or Parquet, pages for people as LaTeX or Markdown."""

from __future__ import annotations

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


def export(table: pd.DataFrame, path: str, notes: list[str] | None = None) -> None:
    """Write a table in the format that the file's ending names, whole or not at all; notes go beside pages only."""
    is_page(path)
    suffix = Path(path).suffix.lower()
    with atomic_path(path) as temporary:
        if suffix == ".csv":
            table.to_csv(temporary, index=False)
        elif suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        elif suffix == ".md":
            Path(temporary).write_text(
                "\n".join([as_text(table, markdown=True), "", *(f"- {n}" for n in notes or ())]), encoding="utf-8"
            )
        else:
            Path(temporary).write_text(latex(table, notes or []), encoding="utf-8")


def latex(table: pd.DataFrame, notes: list[str]) -> str:
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
