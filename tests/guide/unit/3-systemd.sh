#!/usr/bin/env bash
set -euo pipefail
. ./settings.sh

confirm "Write the systemd unit of all nodes?"
etcd-unit install --unit-file etcd.service nodes.txt >/dev/null
