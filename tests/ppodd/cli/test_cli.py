"""Every command through its real entry point: output, exit codes, one-line errors, and how fast they come."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flags import flags

from ppodd.archive import TrialArchive
from ppodd.cli.main import COMMANDS, main
from ppodd.config import DistillConfig
from ppodd.errors import BadInput
from ppodd.posters import BLENDS

CIFAR10_LINE = (
    "--name=PPoDD-CIFAR10-LT1-90 --distill_batch_size=96 --patch_num_x=16 --patch_num_y=6 --dataset=cifar10 "
    "--num_train_eval=8 --update_steps=1 --batch_size=5000 --ddtype=curriculum --cctype=2 --epoch=10000 --test_freq=10 "
    "--print_freq=10 --arch=convnet --window=60 --minwindow=0 --totwindow=200 --inner_optim=Adam --outer_optim=Adam "
    "--inner_lr=0.001 --lr=0.001 --syn_strategy=flip_rotate --real_strategy=flip_rotate --seed=0 --zca --comp_ipc=1 "
    "--class_area_width=32 --class_area_height=32 --poster_width=153 --poster_height=60 --poster_class_num_x=5 "
    "--poster_class_num_y=2 --num_stages=5"
)
CIFAR100_LINE = (
    "--name=PoDD-CIFAR100-LT1-90 --distill_batch_size=50 --patch_num_x=20 --patch_num_y=20 --dataset=cifar100 "
    "--num_train_eval=8 --update_steps=1 --batch_size=2000 --ddtype=curriculum --cctype=2 --epoch=10000 --test_freq=10 "
    "--print_freq=10 --arch=convnet --window=100 --minwindow=0 --totwindow=300 --inner_optim=Adam --outer_optim=Adam "
    "--inner_lr=0.001 --lr=0.001 --syn_strategy=flip_rotate --real_strategy=flip_rotate --seed=0 --zca --comp_ipc=1 "
    "--class_area_width=32 --class_area_height=32 --poster_width=303 --poster_height=303 --poster_class_num_x=10 "
    "--poster_class_num_y=10 --train_y --num_stages=5"
)
CIFAR10, CIFAR100 = CIFAR10_LINE.split(), CIFAR100_LINE.split()
PATH = {"PYTHONPATH": str(Path(__file__).parents[3])}


def ppodd(*args, **options):
    """The command as a process of its own."""
    code = "import sys; from ppodd.cli.main import main; sys.exit(main())"
    environment = {**os.environ, **PATH}
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=environment, **options
    )


def configured(arguments):
    """The config that `ppodd distill` makes of a command line."""
    from ppodd.cli import distill
    from ppodd.cli.main import Parser

    parser = Parser()
    distill.add_arguments(parser)
    return distill.configure(parser.parse(arguments))


@pytest.mark.parametrize(("line", "classes"), [(CIFAR10, 10), (CIFAR100, 100)])
def test_the_published_command_lines_are_taken_word_for_word(line, classes):
    config = configured(line)
    for argument in line:
        name, _, value = argument.removeprefix("--").partition("=")
        held = getattr(config, {"epoch": "epochs"}.get(name, name))
        assert held is True if not value else str(held) == value
    assert config.train_y == (classes == 100) and config.blend == "dynamic"


def test_more_flags_that_users_have():
    line = (
        "--root=/data -j 4 --decay --label_lr_scale=2 --train_lr --eps=1e-6 --wd=0.01 --clip_coef=0.8 --comp_aug "
        "--comp_aug_real --start_epoch=2 --steps_per_epoch=3 --batch_update_steps=2 --dataset=cifar10"
    )
    config = configured(line.split())
    assert config.decay and config.train_lr and config.comp_aug_real and config.workers == 4 and config.start_epoch == 2
    assert (
        len(config.notices()) == 2
        and "batch_update_steps=2 is ignored, as in the published code" in config.notices()[0]
    )


def test_a_preset_is_chosen_by_name_or_data_set_and_flags_win():
    assert configured([]).dataset == "digits"
    assert configured(["--dataset=cifar100"]).poster_width == 303
    assert configured(["--preset=cifar10-small", "--window=7", "--no-zca"]).window == 7
    assert not configured(["--preset=cifar10", "--no-zca"]).zca
    assert configured(["--blend=latest", "--seed=3"]).name == "digits-stages3-latest-seed3"


def test_a_preset_is_made_again_from_itself():
    for method in ("p-podd", "podd", "podd-cumulative", "full-data"):
        config = configured([f"--method={method}"])
        assert DistillConfig.model_validate(config) == config
        assert DistillConfig.model_validate_json(config.model_dump_json()) == config


BAD = [
    (["distil"], "unknown command 'distil'; did you mean 'distill'"),
    (["import", "gone_poster.pt"], "no file 'gone_poster.pt': name what torch.save wrote"),
    (["distill", "--windw=3"], "unknown flag '--windw'; did you mean '--window'"),
    (["distill", "stray"], "unexpected argument 'stray'"),
    (["distill", "--window"], "expected one argument"),
    (["distill", "--json=pretty"], "argument --json: takes no value, but was given 'pretty'"),
    (["distill", "--window=ten"], "window='ten': input should be a valid integer"),
    (["distill", "--poster_class_num_x=4"], "4 × 2 = 8, but the data set has 10 classes"),
    (["distill", "--poster_height=7"], "poster_height=7 is smaller than the image height 8"),
    (["distill", "--patch_num_y=9"], "patch_num_y=9 patches of 8 px cannot be placed"),
    (["distill", "--distill_batch_size=99"], "distill_batch_size=99 exceeds the 10 patches"),
    (["distill", "--window=50"], "window=50 exceeds totwindow=40"),
    (["distill", "--minwindow=31"], "minwindow=31 exceeds totwindow − window = 30"),
    (["distill", "--num_stages=0"], "num_stages='0': input should be greater than or equal to 1"),
    (["distill", "--num_stages=61"], "num_stages=61 exceeds the 60 epochs"),
    (["distill", "--name="], "name='': a name is a folder of the archive"),
    (["distill", "--ipc=0.1"], "the nearest that a layout can meet is 0.1688"),
    (["distill", "--dataset=cifar11"], "unknown dataset 'cifar11'; did you mean 'cifar10'"),
    (["distill", "--preset=digitz"], "unknown preset 'digitz'; did you mean 'digits'"),
    (["distill", "--blend=dinamic"], "unknown blend 'dinamic'; did you mean 'dynamic'"),
    (["distill", "--arch=convnet4"], "arch=convnet4: its 4 blocks are too many for images of 8 × 8 px"),
    (["distill", "--arch=convnt"], "unknown arch 'convnt'; did you mean 'convnet'"),
    (["distill", "--inner_optim=Adm"], "unknown optimiser 'Adm'; did you mean 'Adam'"),
    (["distill", "--syn_strategy=flop"], "unknown augmentation 'flop'; did you mean 'flip'"),
    (["distill", "--lr=nan"], "lr='nan'"),
    (["evaluate"], "the following arguments are required"),
    (["evaluate", "x", "--nets=0"], "nets='0': input should be greater than or equal to 1"),
    (["evaluate", "x", "--mode=both"], "ppodd: mode='both': input should be 'blend' or 'latest'\n"),
    (["evaluate", "x", "--mode=,"], "mode=[]: name at least one"),
    (["evaluate", "x", "--budgets=0,5"], "ppodd: budgets='0': input should be greater than or equal to 1\n"),
    (["evaluate", "x", "--budgets=50,abc"], "ppodd: budgets='abc': input should be a valid integer"),
    (["render", "x", "-o", "x.jpg"], "accepted are files that end in .png or .gif"),
    (["sweep", "quikstart"], "unknown sweep 'quikstart'; did you mean 'quickstart'"),
    (["sweep", "quickstart", "--set", "lrr=1"], "unknown key 'lrr'; did you mean 'lr'"),
    (["results", "tabel"], "invalid choice: 'tabel'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_input_is_one_line_and_exit_2_and_nothing_is_written(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill", "--device=cuda:99"], "device 'cuda:99'"),
        (["distill", "--device=gpu"], "unknown device 'gpu'"),
        (["distill", "--dataset=cifar10", "--root=nowhere"], "/nowhere/cifar10 (looked for"),
        (["distill", "--class_order=clap"], "unknown class_order 'clap'; did you mean 'clip'"),
        (["evaluate", "nowhere"], "'nowhere' is no trial of an archive"),
        (["render", "nowhere", "-o", "x.png"], "'nowhere' is no trial of an archive"),
        (["results", "table", "--archive", "nowhere"], "/nowhere: name the folder that a sweep or distillation wrote"),
        (["results", "sync", "--archive", "nowhere"], "/nowhere: name the folder that a sweep or distillation wrote"),
    ],
)
def test_what_is_not_there_is_named(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_a_sweeps_driver_does_without_torch():
    """It only hands out work; loading torch would take it longer than all it does itself."""
    modules = ", ".join(f"tune.running.{name}" for name in ("sweep", "trial", "search", "scheduler"))
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **PATH})
    assert done.stdout == "False\n", done.stderr


def test_help_is_parted_by_the_papers_sections_with_defaults_choices_and_an_example(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["distill", "--help"]) == 0
    page = capsys.readouterr().out
    parts = [page.index(f"\n{title}") for title in DistillConfig.sections.values()]
    assert parts == sorted(parts) and "examples:\n  ppodd distill --preset digits" in page
    assert re.search(r"--dtype \{float32,float64\}\s+floating-point type of the run \(default: float32\)", page)
    assert "poster width (px): with the height, the pixel budget (default: 38, of the preset digits; else 153)" in page
    assert (
        f"blend strategy: {BLENDS.listing} (default: dynamic)" in page
        and "usage: ppodd distill [--preset NAME]" in page
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shells_complete_commands_and_flags(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "num_stages" in script and "evaluators" in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_help_and_errors_bring_in_no_heavy_library():
    """What makes them fast, told without a clock: benchmarks/startup.py has the times."""
    code = (
        "import sys; from ppodd.cli.main import main; codes = [main([*c.split()]) for c in sys.argv[1:]]\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'numpy', 'matplotlib', 'scipy', 'rich'} & set(sys.modules)\n"
        "print(codes, sorted(heavy), file=sys.stderr)"
    )
    lines = [
        "--help",
        *(f"{command} --help" for command in COMMANDS),
        *(f"results {a} --help" for a in ("table", "curve")),
    ]
    lines += [" ".join(arguments) for arguments, _ in BAD]
    done = subprocess.run(
        [sys.executable, "-c", code, *lines], capture_output=True, text=True, env={**os.environ, **PATH}
    )
    codes = [0] * (len(COMMANDS) + 3) + [2] * len(BAD)
    assert done.stderr.splitlines()[-1] == f"{codes} []"


def test_a_poster_is_held_against_the_images_as_they_are_resized():
    small = ["--dataset=cifar10", "--poster_height=30", "--class_area_height=16"]
    assert configured([*small, "--image_size=16"]).poster_height == 30
    with pytest.raises(BadInput, match="poster_height=30 is smaller than the image height 32"):
        configured(small)


def test_budgets_are_read_in_any_order_and_each_once():
    assert configured(["--budgets=50,20"]).budgets == (20, 50)
    with pytest.raises(BadInput, match=r"budgets=.*50 appears twice: name each once"):
        configured(["--budgets=50,20,50"])


def test_distill_evaluate_render_end_to_end(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "--name=mine", *flags(tiny)]) == 0
    out = capsys.readouterr().out
    assert "stage 2/2: validation accuracy" in out and "nothing to resume" not in out
    assert "test accuracy in % by training steps, mean ± std over 2 networks   2: " in out
    assert "poster IPC 0.450, cumulative IPC 0.900" in out
    folder, there = "ppodd-archive/runs/mine", f"--archive {tmp_path}/ppodd-archive"
    tables = f"in tables: ppodd results sync {there} && ppodd results table {there}"
    assert out.splitlines()[-1] == tables
    assert main(["distill", "--name=mine", *flags(tiny)]) == 2
    assert "already holds this run: continue it with --resume" in capsys.readouterr().err
    assert main(["distill", "--name=mine", "--resume", *flags(tiny)]) == 0
    assert main(["distill", "--name=mine", "--resume", *flags({**tiny, "window": 3})]) == 2
    capsys.readouterr()
    asked = ["--arch=convnet2", "--labels=soft,hard", "--mode=latest", "--nets=1", "--budgets=3"]
    assert main(["evaluate", f"{folder}/stage-01", *asked]) == 0
    soft, hard, last = capsys.readouterr().out.splitlines()
    assert "stage 1, latest, convnet2: " in soft and "stage 1, latest, convnet2, hard labels: " in hard
    assert "steps, of 1 network   3: " in soft and last == tables
    assert main(["render", folder, "-o", "strip.png"]) == 0 and main(["render", folder, "-o", "stages.gif"]) == 0
    from PIL import Image

    with Image.open("strip.png") as strip, Image.open("stages.gif") as animation:
        assert strip.size == (2 * 24 * 4 + 4, 12 * 4) and animation.n_frames == 2
    for name in ("poster.safetensors", "poster.png"):
        path = Path(folder, "stage-01", name)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        capsys.readouterr()
        assert main(["render", folder, "-o", "damaged.png"]) == 1 and not Path("damaged.png").exists()
        assert f"stage-01/{name} is damaged: its digest differs" in capsys.readouterr().err
        path.write_bytes(whole)


def test_resuming_what_is_not_there_says_that_it_starts_anew(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["distill", "--name=nosuch", "--resume", "--no-evaluate", *flags({**tiny, "num_stages": 1})]
    said = "nothing to resume: no run is archived there; it starts anew"
    assert main(arguments) == 0 and said in capsys.readouterr().out
    assert main(arguments) == 0 and said not in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_distillation_resumes_to_the_poster_of_an_uninterrupted_one(tiny, tmp_path):
    values = {**tiny, "epochs": 12, "checkpoint_every": 3}
    whole = ppodd("distill", "--name=whole", "--no-evaluate", *flags(values), cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    code = "import sys; from ppodd.cli.main import main; sys.exit(main())"
    arguments = ["distill", "--name=killed", "--no-evaluate", *flags(values)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=tmp_path, env={**os.environ, **PATH})
    killed = TrialArchive(tmp_path / "ppodd-archive/runs/killed")
    while process.poll() is None and getattr(killed.progress(), "stage", 0) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and not killed.complete()
    resumed = ppodd("distill", "--name=killed", "--no-evaluate", "--resume", *flags(values), cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    uninterrupted = TrialArchive(tmp_path / "ppodd-archive/runs/whole")
    for stage in (1, 2):
        assert killed.folder.read(f"stage-0{stage}/poster.safetensors") == uninterrupted.folder.read(
            f"stage-0{stage}/poster.safetensors"
        )


def test_a_read_only_archive_is_named(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.replace", _read_only)
    assert main(["distill", *flags(tiny)]) == 1
    assert (
        "config.json: Read-only file system; check who may write there or name another folder"
        in capsys.readouterr().err
    )


def _read_only(*args):
    import errno

    raise OSError(errno.EROFS, "Read-only file system")


def test_failures_are_exit_1_and_debug_shows_where(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["distill", "--name=x", *flags({**tiny, "inner_optim": "SGD", "inner_lr": 1e30})]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "at stage 1, meta-step" in error and "the poster is as it was before" in error and error.count("\n") == 1
    from ppodd.errors import NonFinite

    with pytest.raises(NonFinite):
        main([*arguments, "--resume", "--debug"])


def test_doctor_says_what_is_there(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "torch" in out and "cores:" in out and "free" in out and "CUDA" in out.upper()


def test_a_sweep_can_be_looked_at_before_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "quickstart", "--dry-run", "--no-estimate"]) == 0
    assert "25 trials, 35 stages" in capsys.readouterr().out and list(tmp_path.iterdir()) == []
    monkeypatch.setattr("ppodd.cli.console.width", lambda: 50)
    assert main(["sweep", "quickstart", "--dry-run", "--no-estimate"]) == 0
    narrow = capsys.readouterr().out.splitlines()
    assert "method=downscaled       2       0.891" in narrow and max(map(len, narrow)) <= 50


@pytest.mark.slow
def test_cifar10_at_full_poster_size_resumes_after_a_kill(cifar10_root, tmp_path):
    scaled_down = (
        "--window=2 --totwindow=4 --epochs=2 --steps_per_epoch=2 --num_stages=2 --stage_nets=1 --stage_steps=2 "
        "--batch_size=100 --print_freq=1"
    )
    small = scaled_down.split()
    rest = [f"--root={cifar10_root}", "--no-evaluate", "--checkpoint_every=1"]
    line = [argument for argument in CIFAR10 if argument.split("=")[0] not in {s.split("=")[0] for s in small}]
    line = [a for a in line if not a.startswith(("--name", "--epoch"))]
    assert ppodd("distill", *line, *small, *rest, "--name=whole", cwd=tmp_path).returncode == 0
    code = "import sys; from ppodd.cli.main import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "distill", *line, *small, *rest, "--name=killed"],
        cwd=tmp_path,
        env={**os.environ, **PATH},
    )
    killed = TrialArchive(tmp_path / "ppodd-archive/runs/killed")
    while process.poll() is None and getattr(killed.progress(), "stage", 0) < 2:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert ppodd("distill", *line, *small, *rest, "--name=killed", "--resume", cwd=tmp_path).returncode == 0
    digests = [
        json.loads((tmp_path / f"ppodd-archive/runs/{n}/stage-02/stage.json").read_text())["digests"]
        for n in ("whole", "killed")
    ]
    assert digests[0] == digests[1]
