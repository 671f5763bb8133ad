"""Text in any locale: files are UTF-8, a terminal shows what it can; a deleted folder, an endless file are said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sweeps import PATH, command, sweep_file

from ppodd import __version__
from ppodd.cli.main import main

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def ppodd(*arguments, cwd, **environment):
    given = {**os.environ, **PATH, **environment}
    return subprocess.run(command(*arguments), capture_output=True, cwd=cwd, env=given)


@pytest.mark.parametrize("environment", [ASCII, {"PYTHONIOENCODING": "latin-1"}], ids=["ascii", "latin-1"])
def test_a_terminal_shows_what_its_encoding_has_and_files_are_utf8(environment, tmp_path, tiny):
    path = Path(sweep_file(tmp_path, tiny, description="ein Maß → größer"))
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
    done = ppodd("sweep", str(path), "--dry-run", "--no-estimate", cwd=tmp_path, **environment)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert b"2 trials" in done.stdout and b" ? " in done.stdout, done.stdout
    refused = ppodd("sweep", "größe→", cwd=tmp_path, **environment)
    assert refused.returncode == 2 and refused.stderr.startswith(b"ppodd: unknown sweep 'gr"), refused.stderr


def test_names_beyond_ascii_are_read_in_an_ascii_locale_or_the_way_out_is_said(tmp_path, tiny):
    Path(sweep_file(tmp_path, tiny)).rename(tmp_path / "é.yaml")
    plan = ["sweep", "é.yaml", "--dry-run", "--no-estimate"]
    assert ppodd(*plan, cwd=tmp_path, **ASCII).returncode == 0
    refused = ppodd(*plan, "--archive", "ñ", cwd=tmp_path, **ASCII)
    assert refused.returncode == 2 and refused.stderr.count(b"\n") == 1
    assert b"is read as ASCII in this locale: set PYTHONUTF8=1" in refused.stderr


def test_closed_streams_end_nothing(tmp_path, tiny):
    file, code = sweep_file(tmp_path, tiny), "import sys; from ppodd.cli.main import main; sys.exit(main())"
    line = f'exec "$0" -c "{code}" sweep {file} --dry-run --no-estimate'
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f"{line} {closed}", sys.executable], env={**os.environ, **PATH}, cwd=tmp_path
        )
        assert done.returncode == 0


def test_a_working_folder_that_was_deleted_is_said(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    remove = f"import os; os.rmdir({str(gone)!r}); import runpy, sys; sys.argv[0] = 'ppodd'; "
    run = "from ppodd.cli.main import main; sys.exit(main())"
    for arguments, code, said in ((["--version"], 0, f"ppodd {__version__}"), (["doctor"], 2, "folder was deleted")):
        gone.mkdir(exist_ok=True)
        call = [sys.executable, "-c", remove + run, *arguments]
        done = subprocess.run(call, capture_output=True, text=True, cwd=gone, env={**os.environ, **PATH})
        assert done.returncode == code and said in done.stdout + done.stderr, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["name: x\ngrid: &all\n  lr: [*all]\n", "&all\nname: x\nconfig: *all\n"])
def test_an_alias_of_what_it_stands_in_is_refused(text, tmp_path, capsys):
    (tmp_path / "sweep.yaml").write_text(text)
    assert main(["sweep", str(tmp_path / "sweep.yaml"), "--dry-run"]) == 2
    assert "an alias (*…) stands within what it is an alias of: write the value out" in capsys.readouterr().err
