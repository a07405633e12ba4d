#!/usr/bin/env bash
set -euo pipefail
. ./settings.sh

confirm "Install etcd $ETCD_VERSION?"
etcd-fetch "$ETCD_VERSION" --unpack bin
bin/etcd --version
bin/etcdctl version
etcd-push --file "bin/etcd:$INSTALL_DIR/etcd:0755" --file "bin/etcdctl:$INSTALL_DIR/etcdctl:0755" \
  nodes.txt >/dev/null
