# What all steps share: the guide's plan.
# shellcheck shell=bash disable=SC2034
ETCD_VERSION=${ETCD_VERSION:-v3.5.9}
DOWNLOAD_URL=${DOWNLOAD_URL:-https://github.com/etcd-io/etcd/releases/download}
NODES=$(grep -v '^#' nodes.txt) # hostname:address:etcd name
ETCD_DATA_DIR=/var/lib/etcd
ETCD_CONF_DIR=/etc/etcd
ETCD_SSL_DIR=/etc/etcd/ssl
INSTALL_DIR=/usr/local/bin

# confirm QUESTION: asks, as every step does.
confirm() {
  read -rp "$1 (y/n) " answer
  [[ $answer == y ]] || exit 1
}

# each COMMAND: calls it with the address and the etcd name of each node.
each() {
  local hostname address name
  while IFS=: read -r hostname address name; do "$@" "$address" "$name" </dev/null; done <<<"$NODES"
}

# members FORMAT: one word for each node, joined by commas; N is its name, A its address.
members() {
  local words='' hostname address name word
  while IFS=: read -r hostname address name; do
    word=${1/N/"$name"}
    words+=,${word/A/"$address"}
  done <<<"$NODES"
  echo "${words#,}"
}

etcdctl() {
  bin/etcdctl --endpoints="$(members https://A:2379)" --cacert="ssl/ca.crt" \
    --cert="ssl/client.crt" --key="ssl/client.key" "$@"
}
