#!/usr/bin/env bash
# By the CA that is there.
set -euo pipefail
. ./settings.sh

etcd-cert issue --ca-cert ssl/ca.crt --ca-key ssl/ca.key nodes.txt >/dev/null
of_node() {
  for file in server.crt server.key peer.crt peer.key; do
    cp -p "pki/nodes/$2/$file" "ssl/$2-$file"
  done
}
each of_node
cp -p pki/client.crt pki/client.key ssl
