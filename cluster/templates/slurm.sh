#!/bin/bash
# {{ command }}
#
# One sweep on Slurm: sbatch FILE. Submitted again, it goes on with the sweep.
#SBATCH --job-name={{ s.name }}
#SBATCH --nodes={{ s.nodes }}
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --cpus-per-task={{ s.cpus }}
{% if s.gpus %}
#SBATCH --gpus-per-node={{ s.gpus }}
{% endif %}
#SBATCH --mem={{ s.memory[:-1] }}
#SBATCH --time={{ s.time }}
{% if s.partition %}
#SBATCH --partition={{ s.partition }}
{% endif %}
set -euo pipefail
{% if s.setup %}
{{ s.setup }}
{% endif %}
export RAY_USAGE_STATS_ENABLED=0
{% if s.tracking_uri %}
export MLFLOW_TRACKING_URI={{ s.tracking_uri | shell }}
{% endif %}

# a token of this job's own, in a file that its nodes see and others may not read
private=$(mktemp -d "$HOME/.ppodd-$SLURM_JOB_ID.XXXXXX")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$private/token"
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"

# not `ray stop`, which would end every Ray of this user on the node
steps=()
trap 'kill "${steps[@]}" 2>/dev/null || true; wait; rm -rf "$private"' EXIT

on() { # on NODE COMMAND…
    srun --nodes=1 --ntasks=1 --cpus-per-task={{ s.cpus }} --nodelist="$1" "${@:2}"
}
start=(ray start --block --num-cpus={{ s.cpus }} --num-gpus={{ s.gpus }} --temp-dir="/tmp/ray-$SLURM_JOB_ID")

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
ip=$(on "$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))
on "$head" "${start[@]}" --head --node-ip-address="$ip" --port="$port" --include-dashboard=false &
steps+=($!)
for ((tries = 0; tries < 120; tries++)); do
    if (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; then break; fi
    sleep 1
done
for node in "${nodes[@]:1}"; do
    on "$node" "${start[@]}" --address="$ip:$port" &
    steps+=($!)
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

python -m ppodd sweep {{ s.sweep | shell }} --archive {{ s.archive | shell }} --ray-address "$ip:$port" --resume --wait
