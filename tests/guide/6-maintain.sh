#!/usr/bin/env bash
set -euo pipefail
. ./settings.sh

mkdir -p backup
etcdctl endpoint status --write-out=table
first=$(members https://A:2379)
bin/etcdctl --endpoints="${first%%,*}" --cacert="ssl/ca.crt" \
  --cert="ssl/client.crt" --key="ssl/client.key" \
  snapshot save "backup/etcd-snapshot-$(date +%Y%m%d).db"
