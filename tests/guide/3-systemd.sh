#!/usr/bin/env bash
# The unit of each node.
set -euo pipefail
. ./settings.sh

confirm "Write the systemd unit of all nodes?"
copy() {
  ssh "root@$1" "cat >/etc/systemd/system/etcd.service" <etcd.service
  ssh "root@$1" "systemctl daemon-reload && systemctl enable etcd"
}
each copy
