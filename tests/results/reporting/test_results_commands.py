"""The command line over a real store: what it prints, writes and refuses."""

import json
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from archives import write_sweep
from tiny import TINY

from ppodd.archive import Archive
from ppodd.cli.console import console
from ppodd.cli.main import main
from ppodd.cli.sweep import _results
from ppodd.config import EvaluationConfig
from results.reporting import as_text
from results.tracking.syncing import sync


@pytest.fixture(scope="module")
def folder(tmp_path_factory, empty_store):
    """Two sweeps: 2 blends × 3 seeds on one poster, and one seed on another."""
    folder = tmp_path_factory.mktemp("cli") / "archive"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    archive = Archive(folder)
    configs = [{**TINY, "blend": blend, "seed": seed} for blend in ("dynamic", "latest") for seed in (0, 1, 2)]
    write_sweep(archive, "first", configs, EvaluationConfig(nets=2))
    write_sweep(archive, "second", [{**TINY, "poster_width": 32}], EvaluationConfig(nets=2))
    sync(archive.url, f"sqlite:///{archive.url}/mlflow.db")
    return str(folder)


@pytest.fixture
def cli(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        assert main(["results", *arguments, "--archive", folder]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


@pytest.mark.parametrize(
    ("sweep", "by"), [("first", "compare: ppodd results compare --by blend --sweep first --archive "), ("second", None)]
)
def test_a_sweep_ends_with_commands_for_it_alone_and_compares_what_varies_in_it(cli, folder, capsys, sweep, by):
    archive, store = Archive(folder), f"sqlite:///{folder}/mlflow.db"
    ended = SimpleNamespace(name=sweep, varied=["blend", "seed"])
    for given in (None, store):
        _results(console(), archive, ended, store, given)
        said = capsys.readouterr().out
        assert ("compare: " in said) == bool(by) and (by or "") in said
        commands = [line.split("results ")[1] for line in said.splitlines() if line.startswith(("report:", "compare:"))]
        assert all(line.count("--tracking-uri") == bool(given) for line in commands)
        for command in commands:
            assert cli(*shlex.split(command))


def test_tables_go_to_files_of_every_kind(cli, tmp_path):
    for suffix, text in (("csv", "sweep,trial"), ("md", "| poster_ipc |"), ("tex", "begin{tabular}")):
        assert f"t.{suffix}" in cli("table", "-o", f"t.{suffix}")
        assert text in (tmp_path / f"t.{suffix}").read_text()
    assert "28 rows" in cli("table", "-o", "t.parquet") and len(pd.read_parquet(tmp_path / "t.parquet")) == 28


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "table.md", "table.tex"])
def test_a_store_made_anew_gives_byte_equal_tables(cli, folder, tmp_path, empty_store, name):
    cli("table", "-o", name)
    before = (tmp_path / name).read_bytes()
    anew = tmp_path / "anew.db"
    shutil.copy(empty_store, anew)
    sync(folder, f"sqlite:///{anew}")
    cli("table", "-o", name, "--tracking-uri", f"sqlite:///{anew}")
    assert (tmp_path / name).read_bytes() == before


def test_several_sweeps_and_filters_choose_rows(cli):
    both = cli("table", "--sweep", "first", "--sweep", "second")
    assert "0.6" in both and "0.45" in both and "0.6" not in cli("table", "--sweep", "first")
    assert "latest" not in cli("table", "--sweep", "first", "--filter", "params.blend = 'dynamic'")


def test_a_comparison_shows_intervals_pairs_and_n(cli, tmp_path):
    out = cli("compare", "--by", "blend", "--against", "dynamic", "--sweep", "first", "-o", "c.csv")
    assert "low_pct" in out and "verdict" in out and "p_holm" in out and "seeds" in out
    # every seed differs by the same point: no variance, so the exact test of three seeds speaks
    assert "not shown" in out and "0.25" in out
    assert "cumulative_ipc is not equal" in out
    file = pd.read_csv(tmp_path / "c.csv").groupby("table")
    assert file.get_group("means")["accuracy_pct"].tolist() == [26, 25]
    (pair,) = file.get_group("differences").to_dict("records")
    assert (pair["difference_pct"], pair["seeds"], pair["p_exact"]) == (-1, 3, 0.25) and "low_pct" in pair


def documented_keys(command):
    """The keys that docs/json.md lists for a command."""
    page = (Path(__file__).parents[3] / "docs/json.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("|") and f"`{command}`" in line.split("|")[1])
    return {key for part in re.split("[;.] ", row.split("|")[2]) for key in re.findall(r"`(\w+)`", part.split(":")[0])}


@pytest.mark.parametrize(
    "arguments",
    [
        ["table"],
        ["compare", "--by", "blend", "--sweep", "first"],
        ["curve"],
        ["report"],
        ["sync"],
        ["paper", "blend", "--sweep", "first"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_json_is_one_document_of_the_documented_keys(cli, capsys, arguments):
    document = json.loads(cli(*arguments, "--json"))
    assert document.keys() - {"schema", "ppodd", "command"} == documented_keys(f"results {arguments[0]}")
    assert (document["schema"], document["command"]) == (1, f"results {arguments[0]}")


def test_a_comparison_in_json_holds_the_numbers_that_are_shown(cli):
    document = json.loads(cli("compare", "--by", "blend", "--sweep", "first", "--json"))
    (pair,) = document["differences"]
    assert pair["difference_pct"] == -1 and pair["verdict"] == "not shown" and document["overall"] == []
    assert [row["accuracy_pct"] for row in document["means"]] == [26, 25] and "percent" in document["notes"][0]


def test_a_file_goes_to_standard_output_alone(folder, capfd):
    assert main(["results", "table", "-o", "-", "--archive", folder]) == 0
    printed = capfd.readouterr()
    assert len(printed.out.splitlines()) == 29 and printed.out.startswith("sweep,trial")
    assert printed.err == "standard output: 28 rows\n"
    assert main(["results", "table", "-o", "-.md", "--archive", folder]) == 0
    assert capfd.readouterr().out.startswith("|   blend | poster_ipc |")


def test_tables_fit_the_terminal_and_break_inside_no_word(cli, folder, monkeypatch):
    words = set(re.findall(r"[\w.±]+", cli("table")))
    headings = set(cli("table").splitlines()[1].split())
    for columns in (80, 50):
        monkeypatch.setattr("ppodd.cli.console.width", lambda columns=columns: columns)
        narrow = cli("table")
        assert max(map(len, narrow.splitlines())) <= columns
        shown = set(re.findall(r"[\w.±]+", narrow))
        assert headings <= shown and shown - words <= {"for", "want", "room", "without", "every", "row", "in", "of"}


def test_a_narrow_table_names_the_columns_that_it_leaves_out():
    row = {"blend": "dynamic", "50 steps": "25.5 ± 0.7", "100 steps": "26.5 ± 0.7", "balanced": "26.1 ± 0.7"}
    table = pd.DataFrame([row, {**row, "blend": "latest", "50 steps": "2", "100 steps": "3", "balanced": "4"}])
    head, *_, left_out = as_text(table, 40).splitlines()
    assert head.split() == ["blend", "50", "steps", "100", "steps"]
    assert left_out == "for want of room without balanced"
    head, _, dynamic, _, *left_out = as_text(table, 24).splitlines()
    assert head.split() == ["blend", "100", "steps"] and dynamic == "dynamic  26.5 ± 0.7"
    assert " ".join(" ".join(left_out).split()) == "for want of room without 50 steps, balanced"
    wide = table.assign(
        validation=["26.0 ± 0.7", "25.0 ± 0.7"], **{"over random": ["+14.1", "–"], "of full data": ["74 %", "–"]}
    )
    head, *_, left_out, more = as_text(wide, 40).splitlines()
    assert head.split() == ["blend", "100", "steps", "over", "random"]  # rows stay rows as long as the answer fits
    assert f"{left_out} {more.strip()}".endswith("without 50 steps, balanced, validation, of full data")


def test_a_curve_a_report_and_their_files(cli, tmp_path):
    assert cli("curve", "--x", "stage", "-o", "c.svg", "--sweep", "first") == "c.svg\n"
    assert cli("report", "-o", "r.html") == "r.html\n"
    assert "first, second" in (tmp_path / "r.html").read_text() and (tmp_path / "c.svg").exists()


def test_a_published_table_is_laid_beside(cli):
    out = cli("paper", "blend", "--sweep", "first")
    assert "53.8" in out and "measured on digits, published on cifar10" in out
    assert "1 published rows have nothing measured" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "--sweep", "third"], "no sweep 'third' in"),
        (
            ["table", "--filter", "params.blend = 'x'"],
            "matches none of 7 trials (there: params.blend: dynamic, latest;",
        ),
        (["table", "--where", "blend=x"], "--where blend=x matches nothing (there: dynamic, latest)"),
        (["table", "-o", "t.xls"], "cannot write 't.xls'"),
        (["table", "-o", "-.xls"], "accepted are files that end in .csv, .parquet, .tex, .md"),
        (["table", "-o", "-", "--json"], "--json and --output -: both want standard output"),
        (["compare", "--by", "blend", "--against", "x"], "unknown value of blend 'x'"),
        (["compare", "--by", "blend", "--at", "time"], "unknown budget 'time'"),
        (["compare", "--by", "lr"], "lr has one value"),
        (["curve", "--x", "ipc"], "unknown x 'ipc'"),
        (["curve", "--published"], "published numbers are of cifar10, these results of digits: leave --published out"),
        (["curve", "-o", "c.jpg"], "cannot draw 'c.jpg'"),
        (["report", "-o", "r.pdf"], "cannot write 'r.pdf'"),
        (["paper", "ipcs"], "unknown table 'ipcs'; did you mean 'ipc'"),
        (["paper", "stages", "--where", "blend=latest"], "ppodd sweep examples/paper-stages.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(cli, tmp_path, arguments, message):
    error = cli(*arguments, code=2)
    assert message in error and error.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_what_is_in_the_archive_alone_or_nowhere_is_told_apart(folder, tmp_path, capsys):
    copy = shutil.copytree(folder, tmp_path / "archive", ignore=shutil.ignore_patterns("mlflow*"))
    assert main(["results", "table", "--archive", str(copy)]) == 2
    assert f"is not in MLflow yet: run `ppodd results sync --archive {copy}`" in capsys.readouterr().err
    only_store = tmp_path / "store"
    only_store.mkdir()
    shutil.copy(f"{folder}/mlflow.db", only_store)
    assert main(["results", "sync", "--archive", str(only_store)]) == 2
    assert f"no archive at {only_store}: name the folder that a sweep or dist" in capsys.readouterr().err
