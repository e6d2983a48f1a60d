#!/bin/sh
# Two machines with a common folder. On the first:  MACHINE=0 FIRST=10.0.0.1 sh launch/two_machines.sh config.toml
# on the second, with the same address of the first: MACHINE=1 FIRST=10.0.0.1 sh launch/two_machines.sh config.toml
set -eu
exec torchrun \
    --nnodes 2 --node-rank "${MACHINE:?0 on the first machine, 1 on the second}" \
    --nproc-per-node "${GPUS:-1}" \
    --master-addr "${FIRST:?address of the first machine}" --master-port "${PORT:-29500}" \
    -m i2v_core train "$@"
