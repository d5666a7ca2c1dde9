#!/usr/bin/env bash
# Training on several machines. Run it on each of them, with the same variables and options:
#
#   HEAD=10.0.0.1 MACHINES=2 PROCESSES=8 bash examples/accelerate/several_machines.sh \
#       --train_data clips --output_dir runs/large --save_steps 500 --per_device_train_batch_size 6 ...
#
# HEAD       address or name of one of the machines, where the others meet it
# MACHINES   number of machines, 2 if it is not set
# PROCESSES  processes on each machine, one for each GPU; 1 if it is not set
# PORT       a port of HEAD that the others can reach, 29400 if it is not set
# RESTARTS   how often the processes are started again after one of them failed, 3 if it is not set
#
# Data and output_dir must be on a disk that all machines share. If a process or a machine fails, all processes are
# started again and continue from the last checkpoint, as if nothing had happened: save often enough.
set -euo pipefail

head_ip=$(getent ahostsv4 "${HEAD:?the address of one of the machines, e.g. 10.0.0.1}" | awk '{print $1; exit}')
route=$(ip -o route get "$head_ip")
own_ip=$(sed -n 's/.* src \([^ ]*\).*/\1/p' <<< "$route")  # the address by which the other machines reach this one

exec python -m torch.distributed.run \
    --nnodes "${MACHINES:-2}" --nproc_per_node "${PROCESSES:-1}" --max_restarts "${RESTARTS:-3}" \
    --rdzv_backend c10d --rdzv_endpoint "$head_ip:${PORT:-29400}" --rdzv_id "${RUN:-atri}" \
    --rdzv_conf "is_host=$([ "$own_ip" = "$head_ip" ] && echo true || echo false)" --local_addr "$own_ip" \
    -m modeling_atri.cli.main train --resume_from_checkpoint auto "$@"
