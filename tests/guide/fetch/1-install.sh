#!/usr/bin/env bash
set -euo pipefail
. ./settings.sh

confirm "Install etcd $ETCD_VERSION?"
etcd-fetch "$ETCD_VERSION" --unpack bin
bin/etcd --version
bin/etcdctl version

copy() {
  ssh "root@$1" "mkdir -p $ETCD_DATA_DIR $ETCD_CONF_DIR $ETCD_SSL_DIR"
  tar -C bin -c . | ssh "root@$1" "tar -C $INSTALL_DIR -x --no-same-owner"
}
each copy
