"""What is shipped beside the code: a notebook that runs, an image of an install, sources that are whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def test_the_images_files_are_there_and_its_extras_are_known():
    text = (ROOT / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources), line
    (extras,) = re.findall(r'pip install "\.\[([\w,]+)\]"', text)
    assert all(f'"{extra}":' in (ROOT / "setup.py").read_text() for extra in extras.split(","))


def test_the_citation_names_this_version_and_the_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f'__version__ = "{cited["version"]}"' in (ROOT / "ppodd/__init__.py").read_text()
    readme = (ROOT / "README.md").read_text()
    assert all(reference["url"] in readme for reference in cited["references"])


def test_every_page_is_in_the_sites_navigation():
    text = re.sub(r"!!python/name:\S+", "''", (ROOT / "mkdocs.yml").read_text())
    named = set(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"])))
    made = {"index.md", "commands.md", "functions.md"}
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert named - made == pages


@pytest.mark.slow  # a quarter of a minute: a build
def test_the_source_distribution_holds_docs_and_examples(tmp_path):
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(tmp_path), "sdist", "-d", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    listed = subprocess.run(["tar", "tf", archive], check=True, capture_output=True, text=True).stdout
    for part in (
        "docs/method.md",
        "examples/first-look.ipynb",
        "tune/sweeps/quickstart.yaml",
        "CITATION.cff",
        "bootstrap",
    ):
        assert f"/{part}\n" in listed


@pytest.mark.slow  # minutes: a distillation and a sweep on Ray
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "examples/first-look.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [set(output.get("data", {})) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in data for data in shown) >= 3 and any("image/gif" in data for data in shown)
    assert sum("text/html" in data for data in shown) >= 3
