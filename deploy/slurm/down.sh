#!/usr/bin/env bash
# End the Slurm that up.sh started, by the process ids that it stored, and remove its folder.
set -uo pipefail

folder=${VOLFLOW_SLURM:-/run/volflow-slurm}
export SLURM_CONF=$folder/slurm.conf

running() { # pid: alive, and not a zombie
    [ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

stop() { # pid file, name
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || return 0
    kill -TERM "$pid"
    for _ in $(seq 1 40); do
        running "$pid" || return 0
        sleep 0.25
    done
    kill -KILL "$pid"
}

# Jobs first: otherwise their slurmstepd would outlive slurmd.
if [ -f "$folder/pid/slurmctld" ]; then
    for each in $(timeout 5 squeue -h -o %A 2>/dev/null | sort -u); do
        timeout 5 scancel "$each" 2>/dev/null
    done
    for _ in $(seq 1 40); do
        [ -z "$(timeout 5 squeue -h -o %A 2>/dev/null)" ] && break
        sleep 0.25
    done
fi
for each in "$folder"/pid/slurmd.*; do stop "$each" slurmd; done
stop "$folder/pid/slurmctld" slurmctld
stop "$folder/munge/pid" munged
rm -rf "$folder"
