#!/usr/bin/env bash
set -euo pipefail
. ./settings.sh

status() { ssh "root@$1" "systemctl status --no-pager -n 0 etcd"; }
each status
etcdctl endpoint health
etcdctl member list
