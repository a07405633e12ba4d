#!/usr/bin/env bash
# The guide installs on the machine where it runs; the nodes need the binaries, too.
set -euo pipefail
. ./settings.sh

confirm "Install etcd $ETCD_VERSION?"
archive=etcd-$ETCD_VERSION-linux-amd64
curl -sfL "$DOWNLOAD_URL/$ETCD_VERSION/$archive.tar.gz" | tar -xz
mkdir -p bin
cp "$archive"/etcd* bin
bin/etcd --version
bin/etcdctl version

copy() {
  ssh "root@$1" "mkdir -p $ETCD_DATA_DIR $ETCD_CONF_DIR $ETCD_SSL_DIR"
  tar -C bin -c . | ssh "root@$1" "tar -C $INSTALL_DIR -x --no-same-owner"
}
each copy
