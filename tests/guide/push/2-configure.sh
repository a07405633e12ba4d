#!/usr/bin/env bash
# etcd runs as root here, and its files belong to root.
set -euo pipefail
. ./settings.sh

confirm "Write the configuration of all nodes?"
etcd-render --etcd-version "$ETCD_VERSION" nodes.txt |
  jq --arg ssl "$PWD/ssl" --arg to "$ETCD_SSL_DIR" '
    def file($local; $name; $mode): {path: "\($to)/\($name)", local: "\($ssl)/\($local)", mode: $mode};
    .nodes[] |= (.name as $node | del(.users, .directories, .units)
      | .files += [file("ca.crt"; "ca.crt"; "0644"),
          (("server", "peer") as $kind
            | file("\($node)-\($kind).crt"; "\($kind).crt"; "0644"),
              file("\($node)-\($kind).key"; "\($kind).key"; "0600"))])' |
  etcd-push >/dev/null
