#!/usr/bin/env bash
# The guide only says that every node must have certificates: openssl makes them.
set -euo pipefail
. ./settings.sh

[[ ! -e ssl/ca.crt ]] || exit 0
mkdir -p ssl
exec 3>openssl.log # what openssl says of its progress
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=etcd-ca \
  -addext keyUsage=critical,keyCertSign,cRLSign -keyout ssl/ca.key -out ssl/ca.crt 2>&3

# issue NAME EXTENSION...: ssl/NAME.crt and ssl/NAME.key.
issue() {
  openssl req -newkey rsa:2048 -nodes -subj "/O=etcd" -keyout "ssl/$1.key" -out ssl/request 2>&3
  printf '%s\n' "${@:2}" >ssl/extensions
  openssl x509 -req -in ssl/request -CA ssl/ca.crt -CAkey ssl/ca.key -CAcreateserial -days 365 \
    -extfile ssl/extensions -out "ssl/$1.crt" 2>&3
}

of_node() {
  local names="subjectAltName=IP:$1,IP:127.0.0.1,DNS:localhost" kind
  for kind in server peer; do
    issue "$2-$kind" "$names" keyUsage=digitalSignature extendedKeyUsage=serverAuth,clientAuth
  done
}

each of_node
issue client keyUsage=digitalSignature extendedKeyUsage=clientAuth
