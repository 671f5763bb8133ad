"""An archive on S3: a real S3 API on loopback, behind a gate that counts requests and fails some of them."""

import pytest
from archives import write_sweep

from ppodd.archive import Archive, stages_in, tickets_in
from ppodd.config import EvaluationConfig


@pytest.fixture(params=["local", "s3"])
def archive(request, tmp_path):
    return Archive(f"{request.getfixturevalue('bucket')}/runs" if request.param == "s3" else tmp_path / "runs")


def test_one_look_lists_every_trial_stage_and_evaluation(archive, tiny):
    write_sweep(archive, "s", [tiny, {**tiny, "num_stages": 1}], EvaluationConfig())
    (archive.folder / "s/half-made").write("stage-01/stage.json", b"{}")  # no config yet: no trial
    (archive.folder / "s/.tune").write("t000/config.json", b"{}")
    found = archive.listing("s")
    assert list(found) == ["t000", "t001"] == archive.trials("s")
    assert stages_in(found["t000"]) == [1, 2] and stages_in(found["t001"]) == [1]
    trial = archive.trial("s", "t000")
    (ticket,) = tickets_in(found["t000"], 2)
    assert ticket == trial.evaluations(2)[0]["ticket"] and tickets_in(found["t000"], 3) == []
    assert {"config.json", "stage-01/poster.png", f"stage-02/evaluations/{ticket}.json"} <= found["t000"]
    assert archive.listing("gone") == {}


def test_a_look_sees_what_others_wrote_since_the_last(archive, tiny):
    write_sweep(archive, "s", [tiny], EvaluationConfig())
    assert archive.trials("s") == ["t000"] and archive.trial("s", "t000").stages() == [1, 2]
    other = Archive(archive.url)
    other.trial("s", "t000").folder.write("stage-03/stage.json", b"{}")
    other.trial("s", "t001").folder.write("config.json", b"{}")
    assert archive.trials("s") == ["t000", "t001"] and archive.trial("s", "t000").stages() == [1, 2, 3]
    other.trial("s", "t000").folder.remove("stage-03/stage.json")
    assert archive.trial("s", "t000").stages() == [1, 2]


def test_a_look_at_a_sweep_on_s3_is_one_request(bucket, gate, tiny):
    archive = Archive(f"{bucket}/runs")
    write_sweep(archive, "s", [tiny] * 3, EvaluationConfig())
    gate.asked.clear()
    assert len(archive.listing("s")) == 3 and len(gate.asked) == 1
