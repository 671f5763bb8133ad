"""What the pages say works: links lead somewhere, commands are accepted, the library example is real."""

import re
import shlex
import shutil
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from archives import write_sweep
from image_sets import tree

import ppodd
from ppodd.archive import Archive
from ppodd.cli.main import COMMANDS, Parser, _everywhere, main, module_of, parser_of
from ppodd.config import EvaluationConfig
from tune.sweep_file import load_sweep

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(text, kind):
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_project_that_pages_name_are_there(page):
    for path in re.findall(
        r"`((?:ppodd|results|cluster|tune|tests|benchmarks|docs|examples)/[\w/.-]+)`", page.read_text()
    ):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_no_page_installs_ppodd_from_an_index_where_there_is_none():
    named = [page.name for page in PAGES if re.search(r"pip install '?ppodd", page.read_text())]
    assert named == ["troubleshooting.md"]  # which explains what a message says


def commands(text):
    for block in blocks(text, "sh"):
        for line in block.splitlines():
            for part in line.split("&&"):
                words = list(
                    takewhile(lambda word: word not in (">", ">>", "2>", "|"), shlex.split(part, comments=True))
                )
                if words and words[0].endswith("ppodd"):
                    yield words[1:]


@pytest.mark.parametrize("words", [w for page in PAGES for w in commands(page.read_text())], ids=" ".join)
def test_commands_on_the_pages_are_accepted(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "photos")  # a layout is chosen for data that is read
    _, words = _everywhere(words)
    assert words[0] in COMMANDS
    parser = Parser(prog=words[0])
    module = module_of(words[0])
    module.add_arguments(parser)
    args = parser.parse(words[1:])
    if words[0] == "distill":
        assert module.configure(args)


EXAMPLES = [
    (command, line) for command in COMMANDS for line in getattr(module_of(command), "EXAMPLES", "").splitlines()
]


@pytest.mark.parametrize(("command", "line"), EXAMPLES, ids=lambda value: value)
def test_examples_of_the_help_are_accepted(command, line):
    ((first, *words),) = commands(f"```sh\n{line}\n```")
    assert first == command
    parser_of(command).parse(words)


def test_the_sweep_file_of_the_readme_is_a_sweep(tmp_path):
    (text,) = blocks(README, "yaml")
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    assert yaml.safe_load(text)["name"] == load_sweep(str(path)).name


SWEEPS = [t for page in PAGES if page.parent.name == "docs" for t in blocks(page.read_text(), "yaml") if "name:" in t]


@pytest.mark.parametrize("text", SWEEPS)
def test_the_sweep_files_of_the_docs_are_sweeps(text, tmp_path):
    (tmp_path / "sweep.yaml").write_text(text)
    assert load_sweep(str(tmp_path / "sweep.yaml")).wanted


def test_the_library_example_runs(tiny, tmp_path, monkeypatch, capsys):
    (code,) = blocks(README, "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ppodd.config.presets.PRESETS", {"digits": tiny})
    exec(compile(code, "README.md", "exec"), {})
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines() if not line.startswith("stage ")]
    assert said == ["1", "2"]  # beside what a slow machine says of how far it is


EXTENDING = (ROOT / "docs/extending.md").read_text()


def lines(code):
    return [line for line in code.splitlines() if line.strip() and not line.startswith(("#", "import ", "from "))]


def test_what_one_adds_from_outside_is_as_short_as_its_page_says():
    blend, network, data, functions, sweep = map(lines, blocks(EXTENDING, "python"))
    (protocol,) = [line for line in blocks(EXTENDING, "yaml")[0].splitlines() if "mine:" in line]
    counts = [len(blend), len(network), len(data), len([*functions, protocol]), len(sweep)]
    assert counts == [int(row) for row in re.findall(r"^\| [^|]+ \| (\d+) \|", EXTENDING, re.MULTILINE)]
    assert max(counts) <= 8


def test_what_the_page_adds_from_outside_distils_and_judges(tiny, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("\n".join(code for code in blocks(EXTENDING, "python") if "# mine.py" in code))
    monkeypatch.syspath_prepend(tmp_path)
    own = {"blend": "mine:mostly_new", "arch": "mine:linear", "dataset": "mine:scans"}
    run = ppodd.distill(archive=tmp_path / "archive", progress=False, **{**tiny, **own})
    assert list(run[-1].record.blend) == pytest.approx([1 / 3, 2 / 3])
    (judged, *_) = ppodd.evaluate(run[-1:], optim="mine:soft_sign", strategy="mine:brighter", nets=1)
    assert judged.protocol.arch == "mine:linear" and judged.protocol.optim == "mine:soft_sign"
    sweep = blocks(EXTENDING, "python")[-1].splitlines()[2]
    (tmp_path / "sweep.yaml").write_text(sweep.partition("ppodd.sweep(")[2].rstrip(")"))  # a dict is YAML too
    assert {config.blend for config in load_sweep(str(tmp_path / "sweep.yaml")).trials.values()} == {
        "dynamic",
        own["blend"],
    }


def test_the_page_of_the_architecture_names_every_sub_package():
    page = (ROOT / "docs/architecture.md").read_text()
    rooms = [
        face.parent.relative_to(ROOT)
        for top in ("ppodd", "tune", "cluster", "results")
        for face in (ROOT / top).glob("*/__init__.pyi")
    ]
    assert len(rooms) > 15 and not [room for room in rooms if f"`{room}`" not in page]


# What the tour shows but cannot be run here: days on a GPU, data and posters of others, a cluster.
ELSEWHERE = ("sweep", "submit", "import", "distill --preset cifar10")


@pytest.mark.slow  # a quarter of a minute
def test_the_tour_of_the_readme_runs(tiny, tmp_path, monkeypatch):
    """Its commands one after another, on small settings, beside a sweep that is there already."""
    monkeypatch.chdir(tmp_path)
    small = {
        key: list(value) if isinstance(value, tuple) else value for key, value in {**tiny, "num_stages": 3}.items()
    }
    monkeypatch.setattr("ppodd.config.presets.PRESETS", {"digits": small})
    varied = [{**tiny, "method": method, "seed": seed} for method in ("p-podd", "downscaled") for seed in (0, 1, 2)]
    write_sweep(Archive("ppodd-archive"), "quickstart", varied, EvaluationConfig(mode=["latest"]))
    ran = [words for words in commands(README) if not any(" ".join(words).startswith(part) for part in ELSEWHERE)]
    for words in ran:
        assert main(words) == 0, words
    assert [words[0] for words in ran][:4] == ["distill", "render", "evaluate", "export"]
    assert sum(words[0] == "results" for words in ran) >= 5
    for made in ("stages.png", "patches.safetensors", "curve.svg", "report.html"):
        assert (tmp_path / made).stat().st_size, made


# Commands of the other pages that take seconds at most; the rest distils, wants a cluster, a GPU or a server, or (the
# scores of DD-Ranking) evaluations of their own.
QUICK, ADDRESS = ("results", "archive", "cluster", "doctor"), re.compile("://|ddranking")


@pytest.mark.slow  # ten seconds
def test_the_quick_commands_of_the_docs_run(tiny, empty_store, tmp_path, monkeypatch):
    """One after another in one folder, beside a sweep of methods and blends."""
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "photos")
    varied = [
        {**tiny, "num_stages": n, "blend": blend, "method": method, "seed": seed}
        for n, blend, method in ((3, "dynamic", "p-podd"), (4, "released", "p-podd"), (3, "dynamic", "downscaled"))
        for seed in (0, 1, 2)
    ]
    write_sweep(Archive("ppodd-archive"), "quickstart", varied, EvaluationConfig())
    shutil.copy(empty_store, "ppodd-archive/mlflow.db")
    assert main(["results", "sync"]) == 0
    pages = [page for page in PAGES if page.parent.name == "docs"]
    ran = [words for page in pages for words in commands(page.read_text()) if words[0] in QUICK]
    ran = [words for words in ran if words[0] == "cluster" or not ADDRESS.search(" ".join(words))]
    for words in ran:
        assert main(words) == 0, words
    assert len(ran) >= 17 and {words[0] for words in ran} == set(QUICK)
    for made in ("report.html", "rows.parquet", "curve.pdf", "cluster.yaml", "job.yaml", "aws.yaml", "sweep.sh"):
        assert (tmp_path / made).stat().st_size, made


def test_modules_named_in_the_readme_exist():
    for path in re.findall(r"`((?:ppodd|results|cluster|tune)/[\w/]*(?:\.py)?)`", README):
        assert (ROOT / path).exists(), path
