"""`import ppodd`: what the docs show runs, and what comes of it shows itself in notebooks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ppodd
from ppodd.errors import BadInput

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
OF_TORCHVISION = [block for block in BLOCKS if "torchvision" in block]  # run where its export is tested


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from tiny import TINY

    return ppodd.distill(archive=tmp_path_factory.mktemp("api") / "archive", progress=False, name="small", **TINY)


def test_importing_it_brings_nothing_heavy():
    code = (
        "import ppodd, sys; print(sorted({'torch', 'ray', 'mlflow', 'pandas', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


def test_a_run_and_its_stages_show_their_pictures(run):
    assert repr(run) == "<p-podd run small: 2 of 2 stages>"
    assert repr(run[-1]).startswith("<stage 2 of 2 of small: validation accuracy ")
    for picture in (run._repr_png_(), run[0]._repr_png_(), ppodd.render(run)):
        assert picture.startswith(b"\x89PNG")
    assert ppodd.render(run, animated=True).startswith(b"GIF")
    assert run[0].poster.shape == (1, 12, 24) and [stage.number for stage in run] == [1, 2]


def test_an_evaluation_is_a_table_and_is_done_once(run, monkeypatch):
    judged = ppodd.evaluate(run, device="cpu", mode=["blend", "latest"], nets=1)
    table = judged.dataframe()
    assert len(table) == 2 * 2 * 2 and set(table["mode"]) == {"blend", "latest"}
    assert "<table" in judged._repr_html_() and "accuracy_pct" in repr(judged)
    monkeypatch.setattr("ppodd.evaluation.archived_stages.judge", lambda *args: 1 / 0)
    assert ppodd.evaluate(run[1], mode=["latest"], nets=1)[0] == judged[-1]


def test_results_of_runs_are_read_compared_and_drawn(run, tmp_path, empty_store):
    ppodd.evaluate(run, device="cpu", mode=["blend", "latest"], nets=1)
    rows = ppodd.results(Path(run.path).parents[1], where=["stage=2"])
    assert set(rows["trial"]) == {"small"}
    compared = ppodd.compare(rows, by="mode")
    assert set(compared.table["mode"]) == {"blend", "latest"} and "<table" in compared._repr_html_()
    picture = ppodd.curve(rows, x="steps", by=["mode"])
    assert picture.save(tmp_path / "c.png").read_bytes() == picture and "PNG picture" in repr(picture)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ppodd.distill(windw=3), "unknown flag 'windw'|windw"),
        (lambda: ppodd.Run("nowhere"), "'nowhere' is no trial of an archive"),
        (lambda: ppodd.evaluate("nowhere"), "'nowhere' is no trial of an archive"),
        (lambda: ppodd.sweep({"name": "s", "gird": {}}), "sweep, gird: unknown key 'gird'; did you mean 'grid'"),
        (lambda: ppodd.sweep({"grid": {}}), "sweep, name: name is missing: write name: my-sweep"),
        (lambda: ppodd.sweep("no-such"), "unknown sweep 'no-such'"),
    ],
)
def test_what_is_wrong_is_one_line(call, message):
    with pytest.raises(BadInput, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


@pytest.mark.slow  # a minute: every block of the page, on a sweep with Ray
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_page_of_the_docs_runs(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {key: list(value) if isinstance(value, tuple) else value for key, value in tiny.items()}
    monkeypatch.setattr("ppodd.config.presets.PRESETS", {"digits": small})
    names = {}
    for number, block in enumerate(BLOCKS):
        if block not in OF_TORCHVISION:
            exec(compile(block, f"docs/python.md block {number}", "exec"), names)
    assert names["swept"].outcome.complete and (tmp_path / "stages.html").exists()
