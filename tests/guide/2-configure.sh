#!/usr/bin/env bash
# The configuration and the certificates of each node.
set -euo pipefail
. ./settings.sh

confirm "Write the configuration of all nodes?"

configuration() {
  cat <<CONF
ETCD_NAME=$2
ETCD_DATA_DIR=$ETCD_DATA_DIR
ETCD_LISTEN_CLIENT_URLS=https://$1:2379,https://127.0.0.1:2379
ETCD_LISTEN_PEER_URLS=https://$1:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://$1:2380
ETCD_ADVERTISE_CLIENT_URLS=https://$1:2379
ETCD_INITIAL_CLUSTER=$(members N=https://A:2380)
ETCD_INITIAL_CLUSTER_STATE=new
ETCD_INITIAL_CLUSTER_TOKEN=k8s-etcd-cluster
ETCD_CLIENT_CERT_AUTH=true
ETCD_CERT_FILE=$ETCD_SSL_DIR/server.crt
ETCD_KEY_FILE=$ETCD_SSL_DIR/server.key
ETCD_TRUSTED_CA_FILE=$ETCD_SSL_DIR/ca.crt
ETCD_PEER_CLIENT_CERT_AUTH=true
ETCD_PEER_CERT_FILE=$ETCD_SSL_DIR/peer.crt
ETCD_PEER_KEY_FILE=$ETCD_SSL_DIR/peer.key
ETCD_PEER_TRUSTED_CA_FILE=$ETCD_SSL_DIR/ca.crt
CONF
}

copy() {
  configuration "$@" | ssh "root@$1" "cat >$ETCD_CONF_DIR/etcd.conf && chmod 0644 $ETCD_CONF_DIR/etcd.conf"
  ssh "root@$1" "cat >$ETCD_SSL_DIR/ca.crt" <ssl/ca.crt
  for file in server.crt server.key peer.crt peer.key; do
    ssh "root@$1" "umask 077; cat >$ETCD_SSL_DIR/$file" <"ssl/$2-$file"
  done
  ssh "root@$1" "if id -u etcd >/dev/null 2>&1; then chown -R etcd:etcd $ETCD_DATA_DIR $ETCD_CONF_DIR; fi"
}
each copy
