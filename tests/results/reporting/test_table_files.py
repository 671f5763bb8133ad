"""Tables to files, and which rows are chosen."""

import pandas as pd
import pytest
from frames import rows, seeds

from ppodd.errors import BadInput
from results.analysis.tidy_frame import where
from results.reporting.table_files import export, is_page
from results.reporting.tables import table

FRAME = rows([*seeds(num_stages=1), *seeds(num_stages=2)])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_data_files_hold_every_digit_and_type(tmp_path, suffix):
    path = str(tmp_path / f"rows.{suffix}")
    export(FRAME.assign(accuracy_pct=1 / 3), path, ["a note"])
    back = pd.read_csv(path, keep_default_na=False) if suffix == "csv" else pd.read_parquet(path)
    assert len(back) == len(FRAME) and back["accuracy_pct"].tolist() == [1 / 3] * len(FRAME)
    assert list(back.columns) == list(FRAME.columns) and back["steps"].dtype == "int64"


def test_a_page_of_markdown_carries_its_notes(tmp_path):
    export(table(FRAME), str(tmp_path / "t.md"), ["one", "two"])
    text = (tmp_path / "t.md").read_text()
    assert text.startswith("| num_stages | poster_ipc |") and text.endswith("\n- one\n- two")


def test_latex_is_a_booktabs_table_with_every_special_character_escaped(tmp_path):
    odd = pd.DataFrame({"num_stages": [1], "name_&%": ["50.0 ± 1.0"], "b\\{}": ["a–b"]})
    export(odd, str(tmp_path / "t.tex"), ["what must be said"])
    lines = (tmp_path / "t.tex").read_text().splitlines()
    assert lines[1] == "% what must be said" and lines[2] == r"\begin{tabular}{rrr}"
    assert lines[4] == r"num\_stages & name\_\&\% & b\textbackslash{}\{\} \\"
    assert lines[6] == r"1 & 50.0 $\pm$ 1.0 & a--b \\" and lines[-1] == r"\end{tabular}"


def test_an_ending_that_is_none_of_ours_is_named():
    with pytest.raises(BadInput, match=r"cannot write 'x.xlsx': accepted are files that end in .csv, .parquet"):
        is_page("x.xlsx")


def test_rows_are_chosen_by_value():
    assert set(where(FRAME, ["num_stages=2", "seed=1"])["trial"]) == {"t4"}
    assert where(FRAME, ["num_stages=1", "num_stages=2"]).equals(FRAME)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("num_stages", "--where 'num_stages': write FIELD=VALUE"),
        ("num_stage=2", "unknown field 'num_stage'; did you mean 'num_stages'"),
        ("num_stages=9", r"--where num_stages=9 matches nothing \(there: 1, 2\)"),
    ],
)
def test_a_choice_that_matches_nothing_says_what_exists(condition, message):
    with pytest.raises(BadInput, match=message):
        where(FRAME, [condition])
