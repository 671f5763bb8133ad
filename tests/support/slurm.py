"""Slurm's commands as a script sees them, on this machine: nodes are processes, the queue is one job."""

import os
import subprocess
import sys
from pathlib import Path

_SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
_SCONTROL = """#!/bin/bash
if [[ $1 == requeue ]]; then touch "$FAKE_SLURM/requeued"; else printf 'node1\\nnode2\\n'; fi
"""
# runs the script; once $FAKE_SLURM/limit is there, its time limit is near: --signal's signal, to the script alone
_SBATCH = """#!/bin/bash
grep -q '^#SBATCH --signal=B:TERM@120$' "$1" && signal=TERM
grep -q '^#SBATCH --requeue$' "$1" && may_requeue=yes
while :; do
    rm -f "$FAKE_SLURM/requeued"
    bash "$1" & job=$!
    while kill -0 $job 2>/dev/null; do
        if [[ -e $FAKE_SLURM/limit ]]; then rm "$FAKE_SLURM/limit"; kill -$signal $job; fi
        sleep 0.2
    done
    wait $job; code=$?
    echo $code >>"$FAKE_SLURM/codes"
    for left in $(pgrep --session 0); do # as at the end of any job: what it left on its nodes is killed
        [[ $left == $$ ]] || kill -KILL $left 2>/dev/null
    done
    [[ $may_requeue && -e $FAKE_SLURM/requeued ]] || exit $code
    export SLURM_RESTART_COUNT=$((${SLURM_RESTART_COUNT:-0} + 1))
done
"""


def fake_slurm(folder: Path, root: Path, number: int) -> dict[str, str]:
    """Make the commands in a folder; returns the environment of a job of this number on two nodes."""
    commands = folder / "bin"
    commands.mkdir()
    squeue = "#!/bin/sh\necho RUNNING\n"
    for name, text in {"srun": _SRUN, "scontrol": _SCONTROL, "squeue": squeue, "sbatch": _SBATCH}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))},
        # this Python's own `ray` and `python`, on whatever PATH the tests were begun
        "PATH": os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(root),
        "HOME": str(folder),
        "SLURM_JOB_ID": str(number),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "FAKE_SLURM": str(folder),
        "RAY_worker_niceness": "0",  # as for all tests
    }


def sbatch(script: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Submit a script; what it says goes to `job.log` beside it."""
    with open(script.with_name("job.log"), "wb") as log:
        return subprocess.Popen(
            ["sbatch", str(script)], env=environment, stdout=log, stderr=log, start_new_session=True
        )
