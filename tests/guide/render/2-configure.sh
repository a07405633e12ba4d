#!/usr/bin/env bash
set -euo pipefail
. ./settings.sh

confirm "Write the configuration of all nodes?"
etcd-render --etcd-version "$ETCD_VERSION" nodes.txt >rendered.json

copy() {
  jq -r --arg name "$2" '.nodes[] | select(.name == $name) | .files[].content' rendered.json |
    ssh "root@$1" "cat >$ETCD_CONF_DIR/etcd.conf && chmod 0644 $ETCD_CONF_DIR/etcd.conf"
  ssh "root@$1" "cat >$ETCD_SSL_DIR/ca.crt" <ssl/ca.crt
  for file in server.crt server.key peer.crt peer.key; do
    ssh "root@$1" "umask 077; cat >$ETCD_SSL_DIR/$file" <"ssl/$2-$file"
  done
}
each copy
