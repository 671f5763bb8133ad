"""Of whatever a user writes, what is refused is refused in one line and changes nothing; what is accepted works."""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import TINY

from ppodd.archive import TrialArchive
from ppodd.cli.main import main
from ppodd.config import DistillConfig, EvaluationConfig, EvaluationProtocol, build, rebuild
from ppodd.config.names import as_name, check_name
from ppodd.distillation import run as distil
from ppodd.errors import BadInput, one_line
from tune.sweep_file import load_sweep

FEW = settings(
    max_examples=int(os.environ.get("PPODD_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
TEXT = st.text(max_size=12)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.integers(), st.floats(), TEXT,
    st.sampled_from(["auto", "latest", "dynamic", "digits", "convnet", "flip_rotate", "1e-3", "-1", "nan", "inf"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)


def is_one_line(error):
    text = one_line(error)
    assert text and "\n" not in text.strip() and len(text) < 4000


def run(*arguments):
    """Exit code and standard error of a command."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(list(arguments))
    return code, errors.getvalue()


FIELDS = st.sampled_from([*DistillConfig.model_fields, "windw", ""])


@FEW
@given(st.dictionaries(FIELDS, VALUES, max_size=4))
def test_a_config_is_refused_in_one_line_or_comes_back_from_its_archive(values):
    try:
        config = build(DistillConfig, {**TINY, **values})
    except BadInput as error:
        is_one_line(error)
        return
    written = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
    assert rebuild(DistillConfig, written, "config.json") == config


@FEW
@given(st.dictionaries(st.sampled_from([*EvaluationConfig.model_fields, "nest"]), VALUES, max_size=4))
def test_an_evaluation_is_refused_in_one_line_or_names_its_protocols(values):
    try:
        evaluation = build(EvaluationConfig, values)
    except BadInput as error:
        is_one_line(error)
        return
    for protocol in evaluation.protocols(build(DistillConfig, TINY)):
        again = EvaluationProtocol.model_validate_json(protocol.model_dump_json())
        assert again == protocol and again.canonical() == protocol.canonical()


KEYS = [
    "name", "preset", "config", "grid", "sample", "seeds", "resources", "evaluation", "evaluators", "scheduler", "when",
    "search", "num_samples", "stage_accuracy", "objective", "description", "max_concurrent", "gird",
]  # fmt: skip
SECTIONS = st.one_of(VALUES, st.dictionaries(FIELDS, st.lists(SCALARS, max_size=3) | VALUES, max_size=3))


@FEW
@given(st.dictionaries(st.sampled_from(KEYS), SECTIONS, max_size=5))
def test_a_sweep_file_is_refused_in_one_line_or_is_a_sweep(values):
    small = {key: list(value) if isinstance(value, tuple) else value for key, value in TINY.items()}
    given_ = {"name": "s", "preset": "digits-small", "config": small, **values}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sweep.yaml")
        path.write_text(yaml.safe_dump(given_, allow_unicode=True))
        try:
            sweep = load_sweep(str(path))
        except BadInput as error:
            is_one_line(error)
            return
        names = list(sweep.trials)
        assert len(set(names)) == len(names) and all(check_name(name) == name for name in names)
        assert sweep.wanted >= 1
        json.dumps(sweep.record().to_json(), allow_nan=False)
        assert list(load_sweep(str(path)).trials) == names


@FEW
@given(st.text(max_size=40))
def test_what_is_no_yaml_of_a_sweep_is_refused_in_one_line(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sweep.yaml")
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with pytest.raises(BadInput) as refused:
            load_sweep(str(path))
        is_one_line(refused.value)


@FEW
@given(st.lists(TEXT | st.builds("{}={}".format, FIELDS | st.just("config.lr"), TEXT), min_size=1, max_size=3))
def test_what_set_says_is_refused_with_2_and_one_line_or_taken(texts):
    with tempfile.TemporaryDirectory() as folder:
        arguments = [part for text in texts for part in ("--set", text)]
        archive = Path(folder, "archive")
        code, said = run("sweep", "quickstart", "--dry-run", "--no-estimate", "--archive", str(archive), *arguments)
        assert code in (0, 2) and not archive.exists()
        assert code == 0 or (said.startswith("ppodd: ") and said.count("\n") == 1)


@FEW
@given(st.text(min_size=1, max_size=300))
def test_a_name_is_kept_refused_or_made_one(name):
    for one in (name, as_name(name)):  # which is refused where the archive keeps a file of that name
        try:
            held = check_name(one)
        except BadInput as error:
            is_one_line(error)
        else:
            assert held == one and "/" not in one and not one.startswith(".")


def refuses(arguments, folder):
    """The command ends with 1 or 2 and one line, and writes nothing."""
    before = sorted(str(path) for path in Path(folder).rglob("*"))
    code, said = run(*arguments)
    assert code in (1, 2) and said.startswith("ppodd: ") and said.count("\n") == 1, said
    assert sorted(str(path) for path in Path(folder).rglob("*")) == before


@FEW
@given(st.binary(max_size=200))
def test_a_file_that_is_no_poster_is_not_imported(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run_poster.pt")
        path.write_bytes(data)
        refuses(["import", str(path), "--preset", "digits", "--archive", f"{folder}/archive"], folder)


@FEW
@given(VALUES)
def test_an_archive_of_other_shapes_is_refused_in_one_line(values):
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder, "archive/runs/r")
        (trial / "stage-01").mkdir(parents=True)
        for name in ("config.json", "stage-01/stage.json"):
            (trial / name).write_text(json.dumps(values))
        refuses(["export", f"{trial}/stage-01", "-o", f"{folder}/out.npz"], folder)
        code, said = run("archive", "verify", "--archive", f"{folder}/archive")
        assert code == 1 and "Traceback" not in said


# fields whose values of all kinds are accepted by themselves; what they come to together is to be found
VALID = {
    "num_stages": st.integers(1, 2),
    "blend": st.sampled_from(["dynamic", "uniform", "latest", "released"]),
    "class_order": st.sampled_from(["auto", "means"]),
    "inner_optim": st.sampled_from(["Adam", "SGD"]),
    "train_y": st.booleans(),
    "train_lr": st.booleans(),
    "outer_decay": st.booleans(),
    "engine": st.sampled_from(["recomputed", "unrolled"]),
    "stage_start": st.sampled_from(["warm", "fresh"]),
    "window": st.integers(1, 4),
    "totwindow": st.integers(1, 6),
    "minwindow": st.integers(0, 4),
    "cctype": st.integers(0, 3),
    "syn_strategy": st.sampled_from(["flip_rotate", "flip"]),
    "patch_num_x": st.integers(1, 6),
    "patch_num_y": st.integers(1, 4),
    "poster_width": st.integers(10, 30),
    "distill_batch_size": st.integers(1, 12),
    "lr": st.sampled_from([1e-3, 0.1]),
}


@settings(FEW, max_examples=int(os.environ.get("PPODD_EXAMPLES", "24")))
@given(st.fixed_dictionaries({}, optional=VALID))
def test_what_is_accepted_runs(values):
    with tempfile.TemporaryDirectory() as folder:
        trial = TrialArchive(f"{folder}/run")
        try:
            config = build(DistillConfig, {**TINY, "epochs": 2, **values})
            records = list(distil(config, trial))
        except BadInput as error:
            is_one_line(error)
            assert not os.listdir(folder)
            return
        assert len(records) == config.num_stages and trial.stages() == list(range(1, config.num_stages + 1))
