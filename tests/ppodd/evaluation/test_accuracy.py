"""Evaluation: deterministic, every budget reported, budgets and protocol on the record."""

import dataclasses
import importlib
import sys

import pytest
import torch
from plugins import user_module

from ppodd import registry
from ppodd.archive import PosterFile, TrialArchive
from ppodd.cli.main import main
from ppodd.config import DistillConfig, EvaluationConfig, build
from ppodd.config.presets import preset
from ppodd.datasets.loading import load, load_once
from ppodd.distillation.archived_run import run
from ppodd.errors import BadInput
from ppodd.evaluation.accuracy import evaluate, hard
from ppodd.evaluation.archived_stages import evaluate_archived
from ppodd.evaluation.plug_ins import try_works
from ppodd.evaluation.work_items import works
from ppodd.posters.labels import fixed_labels
from ppodd.posters.layout import Layout
from ppodd.source_digest import source_digest
from results.tracking.schema import protocol_hash

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    from tiny import TINY

    trial = TrialArchive(tmp_path_factory.mktemp("archive") / "sweep" / "trial")
    for _ in run(build(DistillConfig, TINY), trial):
        pass
    return trial


def evaluated(trial, stage=2, **values):
    (protocol,) = EvaluationConfig(**values).protocols(trial.config())
    dataset = load_once(trial.config().data, CPU)
    posters = [trial.poster(s) for s in range(1, stage + 1)]
    layout = Layout.of(trial.config().geometry, dataset.spec, posters[-1].class_order)
    blend = [0.0] * (stage - 1) + [1.0] if protocol.mode == "latest" else trial.stage(stage).evaluation_blend
    return evaluate(posters, blend, layout, protocol, dataset.test)


def test_it_is_deterministic_for_a_seed(trial):
    first, again, other = (evaluated(trial, eval_seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_every_budget_and_every_network_is_reported(trial):
    accuracies = evaluated(trial, budgets=(5, 2, 9), nets=3)
    assert list(accuracies) == [2, 5, 9] and all(len(values) == 3 for values in accuracies.values())
    assert all(0 <= value <= 100 for values in accuracies.values() for value in values)


def test_a_budgets_accuracy_does_not_depend_on_the_budgets_after_it(trial):
    assert evaluated(trial, budgets=(4,))[4] == evaluated(trial, budgets=(4, 30))[4]


def test_a_networks_accuracy_does_not_depend_on_how_many_there_are(trial):
    assert evaluated(trial, nets=1)[4] == evaluated(trial, nets=3)[4][:1]


def test_the_latest_poster_alone_is_another_training(trial):
    assert evaluated(trial, mode=("latest",), budgets=(30,)) != evaluated(trial, budgets=(30,))


@pytest.mark.parametrize("arch", ["convnet", "convnet2", "convnetw", "convnetw2", "resnet18-bn", "vit-tiny"])
def test_other_networks_than_the_distilling_one_are_judged(trial, arch):
    assert len(evaluated(trial, arch=(arch,))[4]) == 2


def test_hard_labels_are_the_likeliest_class_of_each_patch(trial):
    soft, other = EvaluationConfig(labels=("soft", "hard")).protocols(trial.config())
    assert (soft.labels, other.labels) == ("soft", "hard") and "labels" not in soft.canonical()
    assert evaluated(trial, labels=("hard",), budgets=(30,)) != evaluated(trial, budgets=(30,))
    flat = torch.tensor([[[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]])
    assert hard(flat).tolist() == [[[0, 1, 0], [1, 0, 0]]]


def test_networks_learn_from_a_poster_of_one_real_image_a_class():
    values = {**preset("digits"), "poster_width": 40, "poster_height": 16, "patch_num_x": 5, "patch_num_y": 2}
    config = build(DistillConfig, {**values, "distill_batch_size": 10, "syn_strategy": "none"})
    dataset = load_once(config.data, CPU)
    layout = Layout.of(config.geometry, dataset.spec, torch.arange(10).reshape(2, 5).numpy())
    images = torch.stack([dataset.train.x[dataset.train.y == label].mean(0) for label in range(10)])
    image = images.reshape(2, 5, 8, 8).permute(0, 2, 1, 3).reshape(1, 16, 40).numpy()
    poster = PosterFile(image, fixed_labels(layout).numpy(), layout.class_order)
    (protocol,) = EvaluationConfig(budgets=(60,), nets=1).protocols(config)
    assert evaluate([poster], [1.0], layout, protocol, dataset.test)[60][0] > 50


def test_the_record_states_protocol_and_both_budgets(trial):
    evaluation = EvaluationConfig(mode=("blend", "latest"))
    records = [evaluate_archived(work, "cpu") for stage in (1, 2) for work in works(trial, stage, [evaluation])]
    assert len(records) == 4
    by = {(r.stage, r.protocol.mode): r for r in records}
    ipc = 24 * 12 / 640
    assert by[2, "blend"].budgets.poster_ipc == pytest.approx(ipc)
    assert by[2, "blend"].budgets.cumulative_ipc == pytest.approx(2 * ipc)
    assert by[2, "latest"].budgets.cumulative_ipc == pytest.approx(ipc)
    blend = by[2, "blend"]
    assert blend.split == "test" and blend.protocol.nets == 2
    assert blend.accuracy[4].mean == pytest.approx(sum(blend.accuracy[4].values) / 2)
    assert list(blend.posters) == [trial.stage(s).digests.poster for s in (1, 2)]


def test_an_evaluation_that_is_there_is_not_done_again(trial, monkeypatch):
    (work,) = works(trial, 1, [EvaluationConfig(eval_seed=5)])
    first = evaluate_archived(work, "cpu")
    monkeypatch.setattr("ppodd.evaluation.archived_stages.evaluate", lambda *args: 1 / 0)
    assert evaluate_archived(work, "cpu") == first


NETWORK = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self, spec, width):
        super().__init__(nn.Flatten(), nn.Linear(spec.channels * spec.height * spec.width, spec.classes, bias=%s))
"""


def test_a_users_network_that_was_edited_is_judged_anew(trial, tmp_path, monkeypatch):
    module = user_module(tmp_path, monkeypatch, NETWORK % True)
    asked = [EvaluationConfig(arch=(f"{module}:Net", "convnet"), budgets=(4,))]
    (first, ours) = works(trial, 1, asked)
    assert not ours.protocol.source and first.protocol.source and first == works(trial, 1, asked)[0]
    before = evaluate_archived(first, "cpu")
    (tmp_path / f"{module}.py").write_text(NETWORK % False)
    (edited, as_before) = works(trial, 1, asked)
    assert edited.ticket != first.ticket and as_before == ours
    assert protocol_hash(edited.protocol) == protocol_hash(first.protocol)  # in tables the later one counts
    with pytest.raises(BadInput, match="Net' was edited since this process imported it: start it anew"):
        evaluate_archived(edited, "cpu")
    registry._imported_as.clear()  # what a process that begins knows
    del sys.modules[module]
    importlib.invalidate_caches()
    assert evaluate_archived(edited, "cpu").accuracy != before.accuracy
    assert {edited.ticket, first.ticket} <= trial.state().evaluations(1)


@pytest.mark.parametrize("inside", ["import helper", "from helper import bias", "def late():\n    import helper"])
def test_a_users_network_is_another_once_a_file_that_it_imports_was_edited(tmp_path, monkeypatch, inside):
    helper = tmp_path / "helper.py"
    helper.write_text("bias = True\n")
    module = user_module(tmp_path, monkeypatch, f"import torch, json\n{inside}\n{NETWORK % True}")
    before = source_digest(module)
    helper.write_text("bias = False\n")
    assert before and source_digest(module) != before
    helper.write_text("bias = True\n")
    assert source_digest(module) == before


def test_a_users_package_is_followed_into_its_modules(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "theirs_package"
    (package / "parts").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "net": "from .parts import block\nfrom . import widths as w\nimport theirs_package.absolute",
        "parts/__init__": "",
        "parts/block": "from ..deep import thing",
        "widths": "",
        "absolute": "import theirs_package.net  # in a circle",
        "deep": "",
        "unrelated": "",
    }.items():
        (package / f"{name}.py").write_text(text)
    digests = [source_digest("theirs_package.net")]
    for name in ("parts/block", "widths", "absolute", "deep", "parts/__init__", "unrelated"):
        with (package / f"{name}.py").open("a") as file:
            file.write("\n# edited")
        digests.append(source_digest("theirs_package.net"))
    assert len(set(digests[:-1])) == len(digests) - 1 and digests[-1] == digests[-2]


def test_a_plug_in_has_the_same_digest_where_it_is_written_and_where_it_is_installed(tmp_path, monkeypatch):
    files = {
        "mine_net/__init__.py": "",
        "mine_net/net.py": "import mine_layers, mine_widths, beside",
        "mine_layers.py": "",
        "mine_widths/__init__.py": "from . import deep",
        "mine_widths/deep.py": "",
    }
    digests = []
    for place in ("src", "lib/site-packages", "target"):
        root = tmp_path / place
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        if place != "src":  # beside another's
            (root / "beside.py").write_text("")
            (root / "mine-1.0.dist-info").mkdir()
            (root / "mine-1.0.dist-info/RECORD").write_text("".join(f"{name},,\n" for name in files))
        monkeypatch.setattr(sys, "path", [str(root), *sys.path])
        importlib.invalidate_caches()
        digests.append(source_digest("mine_net.net"))
        (root / "mine_widths/deep.py").write_text("edited = True")
        digests.append(source_digest("mine_net.net"))
        monkeypatch.undo()
        sys.modules.pop("mine_net", None)
    assert all(digests[:2]) and digests[0] != digests[1] and digests == digests[:2] * 3


def test_a_module_whose_file_lies_elsewhere_than_its_name_says_has_a_digest(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text("import os")
    spec = importlib.util.spec_from_file_location("a.b." * 40 + "net", tmp_path / "net.py")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert source_digest(spec.name)


BROKEN = {
    "that is not there": ("", "arch", "has no Net"),
    "that does not import": ("import no_such_module", "arch", "cannot import"),
    "that is no module": ("def Net(spec, width): return 3", "arch", "returned 3"),
    "that fails": (NETWORK % True + "    def forward(self, x): raise KeyError('oh')", "arch", "fails on images"),
    "whose logits are wrong": (
        NETWORK % True + "    def forward(self, x): return x.sum()",
        "arch",
        "accepted are logits",
    ),
    "that is no optimiser": ("def Net(state, gradient, lr): return gradient", "optim", "returned a Tensor"),
    "that is no augmentation": ("def Net(images, numbers): return images.no", "strategy", "fails when it is tried"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_work_of_a_users_own_is_refused_before_any_evaluation(trial, tmp_path, monkeypatch, capsys, case):
    code, what, words = BROKEN[case]
    own = f"{user_module(tmp_path, monkeypatch, code)}:Net"
    given = f"convnet,{own}" if what == "arch" else own
    before = trial.state().evaluations(1)
    assert main(["evaluate", f"{trial.url}/stage-01", f"--{what}={given}", "--budgets=3", "--eval_seed=99"]) == 2
    streams = capsys.readouterr()
    (line,) = (streams.out + streams.err).splitlines()
    assert words in line and "Net" in line and trial.state().evaluations(1) == before


def test_a_network_that_can_be_differentiated_once_alone_is_judged(trial, tmp_path, monkeypatch):
    code = NETWORK % True + "    def forward(self, x): return Once.apply(super().forward(x))"
    once = """
import torch
class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x.clone()
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient): return gradient
"""
    (work,) = works(trial, 1, [EvaluationConfig(arch=(f"{user_module(tmp_path, monkeypatch, once + code)}:Net",))])
    try_works([work])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_draws_and_close_accuracies(trial):
    (work,) = works(trial, 1, [EvaluationConfig(eval_seed=7)])
    gpu = evaluate_archived(work, "cuda")
    TrialArchive(work.trial_url).folder.remove(f"stage-{work.stage:02d}/evaluations/{work.ticket}.json")
    cpu = evaluate_archived(work, "cpu")
    assert gpu.device == "cuda:0" and gpu.protocol == cpu.protocol
    for budget, accuracy in cpu.accuracy.items():
        assert gpu.accuracy[budget].values == pytest.approx(accuracy.values, abs=2)


def test_other_data_than_the_distillations_is_refused(trial, monkeypatch):
    (work,) = works(trial, 1, [EvaluationConfig(eval_seed=8)])
    honest = load(trial.config().data, torch.device("cpu"))
    monkeypatch.setattr(
        "ppodd.evaluation.archived_stages.data_of", lambda *args: dataclasses.replace(honest, digest="other")
    )
    with pytest.raises(BadInput, match="was distilled from other data than digits as it is here"):
        evaluate_archived(work, "cpu")
    assert not trial.has_evaluation(work.stage, work.ticket)
