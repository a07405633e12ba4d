#!/usr/bin/env bash
set -euo pipefail
. ./settings.sh

etcd-unit status --output table nodes.txt
etcd-health --output table --endpoints "$(members https://A:2379)" \
  --cacert ssl/ca.crt --cert ssl/client.crt --key ssl/client.key
