#!/bin/bash
# {{ command }}
#
{% if s.sweeps | length > 1 %}
# An array of {{ s.sweeps | length }} sweeps on Slurm, each a job of its own: sbatch FILE.
{% else %}
# One sweep on Slurm: sbatch FILE.
{% endif %}
# At its time limit it checkpoints and is queued again; submitted again, it goes on too.
#SBATCH --job-name={{ s.name }}
#SBATCH --nodes={{ s.nodes }}
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --cpus-per-task={{ s.cpus }}
{% if s.gpus %}
#SBATCH --gpus-per-node={% if s.gpu_type %}{{ s.gpu_type }}:{% endif %}{{ s.gpus }}
{% endif %}
#SBATCH --mem={{ s.memory[:-1] }}
#SBATCH --time={{ s.time }}
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
{% for option in ("partition", "account", "qos", "constraint") if s[option] %}
#SBATCH --{{ option }}={{ s[option] }}
{% endfor %}
{% if s.sweeps | length > 1 %}
#SBATCH --array=0-{{ s.sweeps | length - 1 }}
{% endif %}
set -euo pipefail
{% if s.setup %}
{{ s.setup }}
{% endif %}
export RAY_USAGE_STATS_ENABLED=0
{% if s.tracking_uri %}
export MLFLOW_TRACKING_URI={{ s.tracking_uri | shell }}
{% endif %}

# a token of this start's own, in a file that its nodes see and others may not read
private=$(mktemp -d "$HOME/.ppodd-$SLURM_JOB_ID.XXXXXX")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$private/token"
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"

end_ray() { # not `ray stop`, which would end every Ray of this user on the node
    kill $(jobs -p) 2>/dev/null || true
    wait
}
trap 'end_ray; rm -rf "$private"' EXIT
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # nothing is left to wait for once the driver has ended

on() { # on NODE COMMAND…, in place of this shell: with & or in $(…), so that a signal to it is one to srun
    exec srun --nodes=1 --ntasks=1 --cpus-per-task={{ s.cpus }} --nodelist="$1" "${@:2}"
}
start=(ray start --block --num-cpus={{ s.cpus }} --num-gpus={{ s.gpus }} --memory={{ s.memory_bytes }} --temp-dir="/tmp/ray-$SLURM_JOB_ID"{% if s.ray_resources %} --resources={{ s.ray_resources | quoted | shell }}{% endif %})

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
ip=$(on "$head" hostname --ip-address | awk '{print $1}')
listens() { (exec 3<>"/dev/tcp/$ip/$1") 2>/dev/null; }
# two ports, others at each start: queued again on this node, it may meet what its Ray has not yet let go of
port=$((20000 + (SLURM_JOB_ID + 100 * ${SLURM_RESTART_COUNT:-0}) % 6000 * 2))
while listens "$port" || listens $((port + 1)); do port=$((port + 2)); done
on "$head" "${start[@]}" --head --node-ip-address="$ip" --port="$port" --ray-client-server-port=$((port + 1)) --include-dashboard=false &
for ((tries = 0; tries < 120; tries++)); do
    if listens "$port"; then break; fi
    sleep 1
done
for node in "${nodes[@]:1}"; do
    on "$node" "${start[@]}" --address="$ip:$port" &
done

# all of them: a sweep is refused whose trials ask for more than is there
python - "$ip:$port" "${#nodes[@]}" <<'END'
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
for _ in range(300):
    if sum(node["Alive"] for node in ray.nodes()) == int(sys.argv[2]):
        sys.exit()
    time.sleep(1)
sys.exit("not every node joined the Ray cluster within 5 minutes")
END

sweeps=({{ s.sweeps | map("shell") | join(" ") }})
python -m ppodd sweep "${sweeps[${SLURM_ARRAY_TASK_ID:-0}]}" --archive {{ s.archive | shell }} --ray-address "$ip:$port" --resume --wait &
driver=$!
trap 'kill -TERM "$driver" 2>/dev/null || true' TERM # --signal sends it to this script alone
code=0
wait "$driver" || code=$?
while kill -0 "$driver" 2>/dev/null; do # the signal ended the wait, not the driver
    code=0
    wait "$driver" || code=$?
done
# a job that is cancelled gets the signal too, but is not RUNNING any more
if [[ $code == 143 && $(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T) == RUNNING ]]; then
    end_ray
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
