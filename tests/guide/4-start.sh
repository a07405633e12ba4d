#!/usr/bin/env bash
# The guide starts node by node and waits for each: the first start of a cluster never
# returns so. All are started at once, and then waited for.
set -euo pipefail
. ./settings.sh

confirm "Start etcd on all nodes?"
start() { ssh "root@$1" "systemctl start --no-block etcd"; }
each start
wait_for() {
  # shellcheck disable=SC2016 # the node expands it
  ssh "root@$1" 'for try in $(seq 60); do systemctl -q is-active etcd && exit; sleep 1; done; exit 1' ||
    { echo "$2: not started: journalctl -u etcd -n 50" >&2; exit 1; }
}
each wait_for
