# Looks after systemd units. What state.sh and change.sh share.
tab=$(printf '\t')
units=/etc/systemd/system
# The hash of all files that a unit is made of; $1: what `systemctl show` says of
# FragmentPath and DropInPaths.
definition() {
    files=$(printf '%s\n' "$1" | sed -n 's/^FragmentPath=//p; s/^DropInPaths=//p')
    # systemd separates the paths with spaces.
    set -f
    for file in $files; do echo "$file"; cat -- "$file"; done 2>/dev/null | sha256sum | cut -c 1-64
    set +f
}
# The paths in the environment files of a unit; $1: what `systemctl show` says of
# EnvironmentFiles.
environment_files() {
    printf '%s\n' "$1" | sed -n 's/^EnvironmentFiles=//p' | sed 's/ (ignore_errors=.*//'
}
# The CA files that etcd reads when it starts; $1 as above.
ca_files() {
    environment_files "$1" | while IFS= read -r file; do
        [ -f "$file" ] && sed -n 's/^ETCD_\(PEER_\)\{0,1\}TRUSTED_CA_FILE=//p' "$file"
    done | tr -d "\"'" | sort -u
}
authorities() { ca_files "$1" | while IFS= read -r ca; do cat -- "$ca"; done 2>/dev/null | sha256sum | cut -c 1-64; }
# Tells this process from any other: its number, and when it was started, in
# ticks since boot (the name before it may hold spaces and brackets).
process() { printf '%s %s\n' "$1" "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20)"; }
# What a unit was started with, by the hashes above.
started_with() { printf '%s\n' "/run/etcd-tools.started/$1"; }
