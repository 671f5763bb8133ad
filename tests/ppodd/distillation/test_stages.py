"""The stage loop: golden losses, resume equality, curricula, failures, and what goes to the archive."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

from ppodd.archive import TrialArchive
from ppodd.config import DistillConfig, build
from ppodd.datasets.loading import load_once
from ppodd.distillation import curriculum, outer_step
from ppodd.distillation import stages as module
from ppodd.distillation.archived_run import run
from ppodd.distillation.initial import InitialPoster, load_poster
from ppodd.distillation.stages import MetaStepProgress, distill
from ppodd.errors import BadInput, CorruptArchive, NonFinite

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parent / "golden_losses.json"


def config_of(values, **changes):
    return build(DistillConfig, {**values, **changes})


def losses_of(config, device="cpu"):
    losses = []
    for _ in distill(
        config, load_once(config.data, torch.device(device)), on_progress=lambda now: losses.append(now.meta_loss)
    ):
        pass
    return losses


def trial_at(path):
    return TrialArchive(path / "sweep" / "trial")


def poster_bytes(trial):
    return [trial.folder.read(f"stage-{stage:02d}/poster.safetensors") for stage in trial.stages()]


@pytest.mark.parametrize("kind", ["fixed labels", "learned labels"])
def test_a_tiny_two_stage_run_has_its_golden_losses(tiny, kind):
    """These change only when the numerics do: say why in the commit that changes them."""
    learned = {"train_y": True, "train_lr": True, "inner_optim": "SGD"} if kind == "learned labels" else {}
    losses = losses_of(config_of(tiny, dtype="float64", **learned))
    assert losses == pytest.approx(json.loads(GOLDEN.read_text())[kind], rel=1e-9)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny):
    assert losses_of(config_of(tiny)) == losses_of(config_of(tiny))
    assert losses_of(config_of(tiny)) != losses_of(config_of(tiny, seed=1))


def test_global_random_state_neither_matters_nor_changes(tiny):
    torch.manual_seed(1)
    first = losses_of(config_of(tiny, num_stages=1))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert losses_of(config_of(tiny, num_stages=1)) == first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "options", [{}, {"train_y": True, "train_lr": True}, {"cctype": 1, "test_freq": 1}, {"stage_start": "fresh"}]
)
@pytest.mark.parametrize("meta_step", [1, 3, 4, 6])
def test_a_run_killed_at_any_meta_step_resumes_to_the_same_posters(tiny, tmp_path, options, meta_step):
    config = config_of(tiny, checkpoint_every=2, **options)
    whole, killed = trial_at(tmp_path / "whole"), trial_at(tmp_path / "killed")
    for _ in run(config, whole):
        pass

    def kill(now: MetaStepProgress):
        if (now.stage - 1) * now.meta_steps + now.meta_step == meta_step:
            raise Killed

    with pytest.raises(Killed):
        list(run(config, killed, progress=kill))
    assert len(list(run(config, killed, resume=True))) == 2
    assert poster_bytes(killed) == poster_bytes(whole)
    for stage in (1, 2):
        assert killed.stage(stage).stage_accuracy == whole.stage(stage).stage_accuracy
        assert killed.stage(stage).meta_loss == whole.stage(stage).meta_loss


@pytest.mark.parametrize("options", [{}, {"train_y": True, "train_lr": True}])
def test_a_resumed_run_takes_its_sums_in_the_order_of_an_undisturbed_one(tiny, tmp_path, monkeypatch, options):
    """The norm that the gradient is clipped by depends, in its last digit, on how tensors lie in memory."""
    layouts, step = [], module.outer_step

    def noting(config, state, loss, gradients, rate):
        held = {"learned": state.learned, "gradient": gradients, "first": {n: m[0] for n, m in state.moments.items()}}
        layouts.append({(kind, name): t.stride() for kind, tensors in held.items() for name, t in tensors.items()})
        return step(config, state, loss, gradients, rate)

    monkeypatch.setattr(module, "outer_step", noting)
    config, whole, killed = config_of(tiny, **options), trial_at(tmp_path / "whole"), trial_at(tmp_path / "killed")
    list(run(config, whole))
    undisturbed, layouts = layouts, []

    def kill(now: MetaStepProgress):
        if now.meta_step == 2:
            raise Killed

    for _ in whole.stages():  # in each stage
        with pytest.raises(Killed):
            list(run(config, killed, resume=True, progress=kill))
    list(run(config, killed, resume=True))
    odd = [layout for layout in layouts if layout not in undisturbed]
    assert len(undisturbed) == 8 and not odd


def test_a_kill_between_the_last_checkpoint_and_the_stage_record_loses_nothing(tiny, tmp_path, monkeypatch):
    config = config_of(tiny)
    whole, killed = trial_at(tmp_path / "whole"), trial_at(tmp_path / "killed")
    list(run(config, whole))

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrialArchive, "write_stage", kill)
        with pytest.raises(Killed):
            list(run(config, killed))
    assert killed.stages() == []
    list(run(config, killed, resume=True))
    assert poster_bytes(killed) == poster_bytes(whole)


def test_a_finished_run_is_read_not_run_again(tiny, tmp_path):
    config = config_of(tiny)
    first = list(run(config, trial_at(tmp_path)))

    def never(now):
        raise AssertionError("a meta-step was taken")

    assert list(run(config, trial_at(tmp_path), resume=True, progress=never)) == first


CHECKPOINT = "resume/state.safetensors"


def run_noting_checkpoints(config, trial):
    """Run to the end; the checkpoint file after every meta-step."""
    checkpoints, write = [], TrialArchive.write_resume

    def keep(self, *args):
        write(self, *args)
        checkpoints.append(self.folder.read(CHECKPOINT))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrialArchive, "write_resume", keep)
        list(run(config, trial))
    return checkpoints


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of 3 stages of 2 meta-steps each, and its checkpoint after every meta-step."""
    config = config_of(TINY, epochs=3, num_stages=3, checkpoint_every=1)
    trial = trial_at(tmp_path_factory.mktemp("undisturbed"))
    return config, trial, run_noting_checkpoints(config, trial)


def with_stages(whole, tmp_path, stages, checkpoint):
    """An archive of some stages of a run, and a checkpoint of any moment (or none)."""
    trial = trial_at(tmp_path)
    for name in whole.folder.find():
        if name == "config.json" or name.startswith(tuple(f"stage-{stage:02d}/" for stage in stages)):
            trial.folder.write(name, whole.folder.read(name))
    if checkpoint is not None:
        trial.folder.write(CHECKPOINT, checkpoint)
    return trial


@pytest.mark.parametrize("stages", [0, 1, 2])
@pytest.mark.parametrize("step", range(-1, 6))
def test_every_pair_of_archived_stages_and_checkpoint_resumes_to_the_undisturbed_posters(
    undisturbed, tmp_path, caplog, stages, step
):
    """`step` -1 is no checkpoint. What is older than a stage is trained again, what is of a later one is refused."""
    config, whole, checkpoints = undisturbed
    trial = with_stages(whole, tmp_path, range(1, stages + 1), checkpoints[step] if step >= 0 else None)
    if step // 2 > stages:
        with pytest.raises(CorruptArchive, match=r"is of a later stage than the one after the \d archived stage"):
            list(run(config, trial, resume=True))
        return
    list(run(config, trial, resume=True))
    assert poster_bytes(trial) == poster_bytes(whole)
    assert [trial.stage(s).budgets.meta_steps for s in (1, 2, 3)] == [2, 4, 6]
    assert [trial.stage(s).stage_accuracy for s in (1, 2, 3)] == [whole.stage(s).stage_accuracy for s in (1, 2, 3)]
    assert ("is trained again" in caplog.text) == (step + 1 < 2 * stages)


@pytest.mark.parametrize(
    ("step", "reason"),
    [(1, "leads to another poster of stage 1"), (2, "follows another poster of stage 1 than the archived one")],
)
def test_a_checkpoint_of_another_run_is_refused(undisturbed, tmp_path, step, reason):
    """It is of the same settings but for the seed: at the end of the archived stage, or in the middle of the next."""
    config, whole, _ = undisturbed
    checkpoints = run_noting_checkpoints(config.model_copy(update={"seed": 7}), trial_at(tmp_path / "other"))
    with pytest.raises(CorruptArchive, match=reason):
        list(run(config, with_stages(whole, tmp_path / "mixed", [1], checkpoints[step]), resume=True))


def test_a_checkpoint_that_skipped_meta_steps_is_refused(undisturbed, tmp_path):
    """As of a run that went on from a half-trained stage: fewer meta-steps are counted than belong there."""
    config, whole, checkpoints = undisturbed
    trial = with_stages(whole, tmp_path, [1], checkpoints[2])
    arrays, state = trial.resume()
    trial.write_resume(arrays, state.model_copy(update={"meta_steps": 2, "follows": ""}))
    with pytest.raises(CorruptArchive, match="counts 2 meta-steps where 3 belong"):
        list(run(config, trial, resume=True))


@pytest.mark.parametrize("broken", ["meta-loss", "meta-gradient"])
def test_a_non_finite_value_stops_before_the_poster_is_touched(tiny, tmp_path, monkeypatch, broken):
    honest, calls = module.meta_gradients, []

    def poisoned(config, prepared, learned):
        ((loss, gradients),) = honest(config, prepared, learned)
        calls.append(learned[0]["poster"].clone())
        if len(calls) < 6:
            return [(loss, gradients)]
        if broken == "meta-loss":
            return [(loss * math.nan, gradients)]
        return [(loss, {"poster": gradients["poster"] * math.inf})]

    monkeypatch.setattr(module, "meta_gradients", poisoned)
    trial = trial_at(tmp_path)
    with pytest.raises(NonFinite, match=rf"{broken}.* is (nan|inf) at stage 2, meta-step 2"):
        list(run(config_of(tiny), trial))
    arrays, position = trial.resume()
    assert (position.stage, position.step) == (2, 1)
    assert torch.equal(torch.from_numpy(arrays["learned.poster"]), calls[-1])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cctype": 0}, {(2, 2)}),
        ({"cctype": 1}, {(0, 2)}),
        ({"cctype": 2}, {(0, 2), (1, 2), (2, 2)}),
        ({"cctype": 3}, {(0, 2), (0, 3), (0, 4)}),
        ({"cctype": 0, "ddtype": "standard"}, {(0, 2)}),
    ],
)
def test_each_curriculum_takes_its_plain_steps_and_window(tiny, options, expected):
    config = config_of(tiny, **options)
    distillation = module.Distillation(config, load_once(config.data, CPU), None)
    position = distillation.first_state()
    seen = []
    for step in range(40):
        position.step = step
        seen.append(curriculum.steps(config, position, step // distillation.epoch_steps))
    assert set(seen) == expected
    assert seen[::2] == seen[1::2]  # drawn once an epoch of two meta-steps


def test_cctype_1_grows_by_a_window_when_the_held_out_loss_stalls(tiny, monkeypatch):
    monkeypatch.setattr(curriculum, "_PATIENCE", 1)
    config = config_of(tiny, cctype=1, test_freq=1, lr=1e-12, epochs=6, num_stages=1, totwindow=7)
    positions = []
    list(distill(config, load_once(config.data, CPU), on_checkpoint=lambda p: positions.append(p.curriculum)))
    assert positions[0] == 0 and set(positions) <= {0, 2, 4, 5} and positions[-1] > 0


def test_the_poster_gradient_is_clipped_to_twice_its_running_norm(tiny, monkeypatch):
    config = config_of(tiny)
    distillation = module.Distillation(config, load_once(config.data, CPU), None)
    position = distillation.first_state()
    seen = []
    monkeypatch.setattr(
        outer_step, "_adam", lambda config, position, gradients, rate: seen.append(float(gradients["poster"].norm()))
    )
    for norm in (1.0, 100.0):
        gradient = torch.zeros_like(position.learned["poster"])
        gradient[0, 0, 0] = norm
        outer_step.outer_step(config, position, torch.tensor(1.0), {"poster": gradient})
    # average after the first: 1; after the second: 0.9 + 0.1 × 100 = 10.9
    assert seen == pytest.approx([1.0, 21.8])


def test_the_outer_rate_decays_over_each_stage_if_it_is_to(tiny, monkeypatch):
    rates, step = [], module.outer_step
    monkeypatch.setattr(module, "outer_step", lambda *given: (rates.append(given[-1]), step(*given)))
    config = config_of(tiny, outer_decay=True, epochs=4, steps_per_epoch=2, num_stages=2)
    decayed = [result.poster.digest for result in distill(config, load_once(config.data, CPU))]
    half = (1 + math.cos(math.pi / 4)) / 2
    assert rates == pytest.approx(2 * [1, half, 0.5, 1 - half])
    rates.clear()
    config = config.model_copy(update={"outer_decay": False})
    assert decayed != [result.poster.digest for result in distill(config, load_once(config.data, CPU))]
    assert rates == 8 * [1]


def test_the_first_step_of_adam_is_as_long_as_the_rate(tiny):
    config = config_of(tiny, lr=0.5)
    for rate in (1.0, 0.25):
        state = module.Distillation(config, load_once(config.data, CPU), None).first_state()
        before = state.learned["poster"].clone()
        outer_step.outer_step(config, state, torch.tensor(1.0), {"poster": torch.ones_like(before)}, rate)
        torch.testing.assert_close(before - state.learned["poster"], torch.full_like(before, 0.5 * rate))


def test_an_epoch_passes_over_every_training_image_once(tiny):
    config = config_of(tiny, steps_per_epoch=0, batch_size=500, real_strategy="none")
    dataset = load_once(config.data, CPU)
    distillation = module.Distillation(config, dataset, None)
    position = distillation.first_state()
    assert distillation.epoch_steps == math.ceil(len(dataset.train.y) / 500)
    labels = []
    for step in range(distillation.epoch_steps):
        position.step = step
        labels.append(distillation._real_batch(position)[1])
    assert torch.equal(torch.cat(labels).bincount(), dataset.train.y.bincount())


def test_distillation_starts_from_an_archived_poster(tiny, tmp_path):
    list(run(config_of(tiny), trial_at(tmp_path)))
    stage = tmp_path / "sweep" / "trial" / "stage-02"
    started = []
    config = config_of(tiny, load_poster_run_name=str(stage), lr=1e-12, name="again")
    list(run(config, TrialArchive(tmp_path / "again"), progress=lambda now: started.append(now.meta_loss)))
    first, again = trial_at(tmp_path).poster(2), TrialArchive(tmp_path / "again").poster(1)
    assert abs(first.poster - again.poster).max() < 1e-6
    with pytest.raises(BadInput, match="no poster at 'nowhere'"):
        list(run(config_of(tiny, load_poster_run_name="nowhere"), TrialArchive(tmp_path / "third")))


def saved(folder, name, tensor):
    folder.mkdir(exist_ok=True)
    torch.save(tensor, folder / name)


def test_every_fresh_stage_starts_from_the_given_poster(tiny):
    """Steps are taken in place: without a copy the second stage would start from where the first one ended."""
    config = config_of(tiny, stage_start="fresh", lr=0.05, blend="latest")
    start = np.random.default_rng(0).normal(size=(1, 12, 24)).astype(np.float32)
    given = start.copy()
    stages = list(distill(config, load_once(config.data, CPU), initial=InitialPoster(given)))
    assert np.array_equal(given, start)
    for stage in stages:  # Adam's first steps go lr at most
        assert np.abs(stage.poster.poster - start).max() < 1.1 * 4 * 0.05


def test_distillation_starts_from_what_podds_code_saved(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    poster, labels = torch.randn(1, 1, 12, 24), torch.rand(1, 10, 4, 9)
    saved(tmp_path / "checkpoints", "old_poster.pt", poster)
    saved(tmp_path / "checkpoints", "old_label.pt", labels)
    assert load_poster("old").poster.shape == (1, 12, 24)
    config = config_of(tiny, load_poster_run_name="old", train_y=True, lr=1e-9, num_stages=1)
    list(run(config, trial_at(tmp_path)))
    archived = trial_at(tmp_path).poster(1)
    np.testing.assert_allclose(archived.poster, poster[0], atol=1e-6)
    np.testing.assert_allclose(archived.labels, labels[0], atol=1e-6)


@pytest.mark.parametrize(
    ("held", "changes", "message"),
    [
        ({"a": 1}, {}, "holds dict: needed is one tensor"),
        (torch.zeros(2, 1, 12, 24), {}, r"holds \(2, 1, 12, 24\): needed is one tensor"),
        (torch.full((1, 12, 24), float("nan")), {}, "holds NaN or infinite values"),
        (torch.zeros(1, 10, 24), {}, r"is \(1, 10, 24\) \(C, H, W\), the config's is \(1, 12, 24\)"),
        (torch.zeros(1, 12, 24), {"train_y": True}, "has fixed labels: change train_y=True"),
        (Path("/tmp"), {}, "holds no tensor that can be loaded safely"),
    ],
)
def test_a_poster_to_start_from_that_does_not_fit_is_refused(tiny, tmp_path, held, changes, message):
    saved(tmp_path, "x_poster.pt", held)
    config = config_of(tiny, load_poster_run_name=str(tmp_path / "x_poster.pt"), **changes)
    with pytest.raises(BadInput, match=message):
        list(run(config, trial_at(tmp_path)))
    assert not trial_at(tmp_path).folder.exists("config.json")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", [{}, {"train_y": True, "train_lr": True, "cctype": 1, "test_freq": 1}])
def test_a_gpu_distils_to_nearly_the_same_losses(tiny, options):
    config = config_of(tiny, dtype="float64", **options)
    assert losses_of(config, "cuda") == pytest.approx(losses_of(config), rel=1e-6)


def test_a_missing_stage_in_between_stops_a_resume(tiny, tmp_path):
    config = config_of(tiny, num_stages=3, epochs=3)
    stages = run(config, trial_at(tmp_path))
    next(stages), next(stages)
    stages.close()
    trial_at(tmp_path).folder.remove("stage-01/stage.json")
    with pytest.raises(CorruptArchive, match=r"holds stages \[2\]: stage 1 is missing"):
        list(run(config, trial_at(tmp_path), resume=True))


def test_a_users_network_with_dropout_resumes_to_the_same_posters(tiny, tmp_path):
    config = config_of(tiny, arch="user_networks:Dropout", checkpoint_every=1)
    whole, killed = trial_at(tmp_path / "whole"), trial_at(tmp_path / "killed")
    list(run(config, whole))

    def kill(now: MetaStepProgress):
        if (now.stage, now.meta_step) == (2, 3):
            raise Killed

    with pytest.raises(Killed):
        list(run(config, killed, progress=kill))
    torch.rand(7)
    list(run(config, killed, resume=True))
    assert poster_bytes(killed) == poster_bytes(whole)
    assert killed.stage(2).stage_accuracy == whole.stage(2).stage_accuracy
