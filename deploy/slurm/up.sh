#!/usr/bin/env bash
# Start a real Slurm on one machine, to try `volflow run --cluster slurm`: munged, slurmctld and a few
# slurmd that listen on 127.0.0.1 only. As root, on Debian or Ubuntu; down.sh ends what this starts.
#
#   deploy/slurm/up.sh
#   export SLURM_CONF=/run/volflow-slurm/slurm.conf
#   sinfo
#
#   VOLFLOW_SLURM        folder of all its files (default /run/volflow-slurm; a short path, because it
#                        holds sockets)
#   VOLFLOW_SLURM_NODES  simulated nodes (default 2), of VOLFLOW_SLURM_CPUS cores (default 4) and
#                        VOLFLOW_SLURM_MEMORY MiB (default 11000) each
#   VOLFLOW_SLURM_GPUS   simulated GPUs of the last node (1, or 2: the default)
#   VOLFLOW_SLURM_PORT   first port (default 26817)
#
# Partitions: cpu (all nodes), gpu (the last node, with simulated GPUs), short (the first node, five
# minutes at most). Processes that run already are left alone, so the script may be called again.
set -euo pipefail

folder=${VOLFLOW_SLURM:-/run/volflow-slurm}
nodes=${VOLFLOW_SLURM_NODES:-2}
cpus=${VOLFLOW_SLURM_CPUS:-4}
memory=${VOLFLOW_SLURM_MEMORY:-11000}
gpus=${VOLFLOW_SLURM_GPUS:-2}
port=${VOLFLOW_SLURM_PORT:-26817}
last=$((nodes - 1))
host=$(hostname -s)

[ "$(id -u)" = 0 ] || { echo "up.sh: expected root, which slurmd requires; got $(id -un)" >&2; exit 1; }

missing=()
command -v munged >/dev/null || missing+=(munge)
for each in slurmctld slurmd; do command -v $each >/dev/null || missing+=($each); done
command -v sbatch >/dev/null || missing+=(slurm-client)
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    # RUNLEVEL keeps the packages' own daemons from starting
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# A process counts as running by its pid file and its name; a zombie does not.
running() { # pid file, name
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] && ! grep -q '^State:.Z' "/proc/$pid/status"
}

umask 022 # munged refuses folders that others can write to
install -d -m 0755 "$folder" "$folder"/{munge,state,log,pid}
getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts

# munge with its own key and socket; the system's are left alone
key=$folder/munge/key
[ -s "$key" ] || (umask 077 && dd if=/dev/urandom of="$key" bs=128 count=1 status=none)
if ! running "$folder/munge/pid" munged; then
    rm -f "$folder"/munge/socket*
    munged --key-file="$key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
        --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" --num-threads=2
fi

plugins=$(dirname "$(dpkg -L slurm-wlm-basic-plugins | grep -m1 select_cons_tres.so)")
{
    cat <<CONF
ClusterName=volflow
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=10
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=$port
SrunPortRange=$((port + 100))-$((port + 199))
SlurmctldPidFile=$folder/pid/slurmctld
SlurmdPidFile=$folder/pid/slurmd.%n
SlurmdSpoolDir=$folder/spool.%n
StateSaveLocation=$folder/state
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd.%n
PluginDir=$plugins
PlugStackConfig=$folder/plugstack.conf
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory,CR_LLN
SlurmdParameters=config_overrides
DefMemPerCPU=500
ReturnToService=2
KillWait=5
MinJobAge=900
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=5
GresTypes=gpu
CONF
    for number in $(seq 0 $last); do
        gres=$([ "$number" = $last ] && echo "Gres=gpu:$gpus" || true)
        echo "NodeName=n$number NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1 + number))" \
            "CPUs=$cpus RealMemory=$memory $gres"
    done
    echo "PartitionName=cpu Nodes=ALL Default=YES MaxTime=7-00:00:00 State=UP"
    echo "PartitionName=gpu Nodes=n$last MaxTime=1-00:00:00 State=UP"
    echo "PartitionName=short Nodes=n0 MaxTime=00:05:00 State=UP"
} >"$folder/slurm.conf"
echo "CgroupPlugin=cgroup/v1" >"$folder/cgroup.conf" # read, but nothing here uses cgroups
# Devices that exist everywhere stand for GPUs: jobs get CUDA_VISIBLE_DEVICES as with real ones.
for device in $(printf '%s\n' /dev/null /dev/zero | head -n "$gpus"); do
    echo "NodeName=n$last Name=gpu File=$device"
done >"$folder/gres.conf"
: >"$folder/plugstack.conf"

export SLURM_CONF=$folder/slurm.conf
running "$folder/pid/slurmctld" slurmctld || slurmctld -i
for number in $(seq 0 $last); do
    install -d -m 0755 "$folder/spool.n$number"
    running "$folder/pid/slurmd.n$number" slurmd || slurmd -N "n$number"
done
for _ in $(seq 1 480); do
    ready=$(sinfo -h -N -p cpu -o %t 2>/dev/null | grep -cE '^(idle|mix|alloc)$' || true)
    [ "$ready" = "$nodes" ] && break
    sleep 0.25
done
if [ "$ready" != "$nodes" ]; then
    echo "up.sh: $ready of $nodes nodes came up; see $folder/log" >&2
    tail -n 5 "$folder"/log/* >&2
    exit 1
fi
echo "export SLURM_CONF=$SLURM_CONF"
