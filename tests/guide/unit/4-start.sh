#!/usr/bin/env bash
# Whatever is stopped is started; what is outdated is restarted, one member at a time.
set -euo pipefail
. ./settings.sh

confirm "Start etcd on all nodes?"
etcd-unit start --cacert ssl/ca.crt --cert ssl/client.crt --key ssl/client.key nodes.txt >/dev/null
