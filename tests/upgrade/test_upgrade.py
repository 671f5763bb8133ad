"""Archives of earlier releases are read for good: resumed, evaluated, shown, and named by the tickets they have."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cluster.dispatch import Backlog
from ppodd.archive import Archive
from ppodd.distillation import run
from ppodd.evaluation import evaluate_archived, measure_candidate, works
from results.analysis import choose, trials
from results.reporting import report
from results.tracking import open_store, schema, sync
from tune.running.claim import check_claim
from tune.sweep_file import load_sweep

RELEASES = sorted(path for path in Path(__file__).parent.iterdir() if (path / "archive").is_dir())

# Of 0.1.0: what each evaluation is called. A ticket that changes has every archived evaluation done again.
TICKETS = {
    "seed=0/1/blend/convnet": "51a1afd7b9f0d4706d90",
    "seed=0/1/latest/convnetw": "276dc94926aed9cfa301",
    "seed=0/2/blend/convnet": "5ad5b390a70bf097771e",
    "seed=0/2/latest/convnetw": "e36961a49ecf8764db41",
}
# And what tells its protocol apart in MLflow's names. One that changes takes the metric from under its curve.
PROTOCOLS = {"blend/convnet": "bb3893d8", "latest/convnetw": "1975493d"}


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def release(request, tmp_path):
    """A copy of what a release wrote: its folder."""
    return Path(shutil.copytree(request.param, tmp_path / request.param.name))


@pytest.fixture
def archive(release):
    return Archive(release / "archive")


@pytest.fixture
def uri(empty_store, tmp_path):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def contents(archive):
    found = (path for path in Path(archive.url).rglob("*") if path.is_file())
    return {str(path.relative_to(archive.url)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def grown_works(archive, trial):
    asked = archive.evaluations("grown")
    return [work for stage in trial.stages() for work in works(trial, stage, asked)]


def test_tickets_and_protocols_keep_their_names(archive):
    trial = archive.trial("grown", "seed=0")
    found = {f"seed=0/{w.stage}/{w.protocol.mode}/{w.protocol.arch}": w for w in grown_works(archive, trial)}
    assert {name: work.ticket for name, work in found.items()} == TICKETS
    hashes = {f"{w.protocol.mode}/{w.protocol.arch}": schema.protocol_hash(w.protocol) for w in found.values()}
    assert hashes == PROTOCOLS


def test_what_is_finished_is_found_and_only_the_rest_is_open(archive):
    for sweep, done in (("grown", 3), ("thinned", 0)):
        snapshot = Backlog(archive.url, sweep).look()
        assert snapshot.done == done and not snapshot.unreadable
    snapshot = Backlog(archive.url, "grown").look()
    assert [(w.trial_url[-6:], w.stage) for w in snapshot.open] == [("seed=1", 1)] * 2
    (why,) = snapshot.given_up.values()
    assert why == "seed=0 stage 2, latest, convnetw: RuntimeError: lost"


def test_posters_and_pictures_are_whole(archive):
    for sweep in archive.sweeps():
        for trial in (archive.trial(sweep, name) for name in archive.trials(sweep)):
            for stage in trial.stages():
                assert trial.poster(stage).poster.shape == (1, 12, 24)
                assert trial.png(stage).startswith(b"\x89PNG")


def test_a_trial_that_failed_in_the_middle_of_a_stage_goes_on(archive, tmp_path):
    failed = archive.trial("grown", "seed=1")
    anew = Archive(tmp_path / "anew").trial("grown", "seed=1")
    list(run(failed.config(), anew))
    list(run(failed.config(), failed, resume=True))
    assert failed.stages() == [1, 2]
    # The release's processor, and its engine, may have rounded otherwise: by the end of stage 2 float32 lies 0.004 from
    # float64 here, a twelfth of one meta-step's 0.05.
    for stage, apart in ((1, 1e-4), (2, 1e-2)):
        mine, theirs = anew.poster(stage), failed.poster(stage)
        np.testing.assert_allclose(theirs.poster, mine.poster, atol=apart)
        np.testing.assert_allclose(theirs.labels, mine.labels, atol=apart)
        assert theirs.inner_lr == pytest.approx(mine.inner_lr, rel=apart)


def test_a_run_that_waited_for_its_stage_accuracy_goes_on(archive):
    trial = archive.trial("runs", "waiting")
    accuracies = measure_candidate(trial.url, 1, 0, 2, "cpu")
    (record,) = run(trial.config(), trial, resume=True, measure=lambda *_: accuracies)
    assert trial.complete() and list(record.stage_accuracy.values) == accuracies


def test_an_evaluation_done_again_has_the_same_accuracies(archive):
    trial = archive.trial("grown", "seed=0")
    for work in grown_works(archive, trial):
        if not trial.has_evaluation(work.stage, work.ticket):
            continue
        held = trial.evaluation(work.stage, work.ticket)
        trial.folder.remove(f"stage-{work.stage:02d}/evaluations/{work.ticket}.json")
        anew = evaluate_archived(work, "cpu")
        assert held.to_json().keys() <= anew.to_json().keys()  # records grow
        for steps, accuracy in held.accuracy.items():  # a test image may fall on the other side
            assert anew.accuracy[steps].mean == pytest.approx(accuracy.mean, abs=0.5)


@pytest.mark.parametrize("sweep", ["grown", "thinned"])
def test_the_sweep_file_still_claims_its_sweep(release, archive, sweep):
    mine = load_sweep(str(release / f"{sweep}.yaml"))
    assert check_claim(mine, archive, resume=True) is not None


def test_mlflow_shows_all_of_it_and_the_archive_is_as_it_was(archive, uri):
    before = contents(archive)
    synced = sync(archive.url, uri)
    assert (synced.problems, synced.stages, synced.evaluations) == ([], 8, 3)
    assert contents(archive) == before
    shown = {f"{trial.sweep}/{trial.name}": trial.status for trial in trials(choose(uri))}
    assert shown == {
        "grown/seed=0": "finished",
        "grown/seed=1": "failed",
        "runs/imported": "finished",
        "runs/waiting": "running",
        "thinned/seed=0": "finished",
        "thinned/seed=1": "stopped",
    }
    metric = "test_accuracy/blend/convnet/steps_4"
    client = open_store(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'grown'")
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`{schema.KEY}` = 'grown/seed=0'")
    logged = [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, metric)]
    files = sorted(Path(archive.url).glob("grown/seed=0/stage-*/evaluations/*.json"))
    records = [json.loads(path.read_bytes()) for path in files]
    assert logged == [(r["stage"], r["accuracy"]["4"]["mean"]) for r in records if r["protocol"]["mode"] == "blend"]


def test_the_report_is_made_of_it(archive, uri, tmp_path):
    sync(archive.url, uri)
    page = tmp_path / "report.html"
    report(uri, str(page), ["grown", "thinned"])
    text = page.read_text()
    assert "the meta-loss is nan at stage 2, meta-step 3" in text and "stopped early, after stage 1" in text
