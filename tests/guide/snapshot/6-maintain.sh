#!/usr/bin/env bash
set -euo pipefail
. ./settings.sh

mkdir -p backup
etcdctl endpoint status --write-out=table
etcd-snapshot save --to backup/ --cacert ssl/ca.crt --cert ssl/client.crt --key ssl/client.key \
  nodes.txt >/dev/null
