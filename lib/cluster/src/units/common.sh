# Looks after systemd units. What state.sh and change.sh share.
tab=$(printf '\t')
newline='
'
units=/etc/systemd/system
# The property $1 in $show, which is what `systemctl show` says. Every process costs the
# host a millisecond or two: hence no sed for this.
get() {
    case $newline$show in *"$newline$1="*) ;; *) return 0 ;; esac
    property=$newline$show
    property=${property#*"$newline$1="}
    printf '%s\n' "${property%%"$newline"*}"
}
# The hash of all files that a unit is made of, comments aside; $1: what `systemctl show`
# says of FragmentPath and DropInPaths.
definition() {
    files=$(printf '%s\n' "$1" | sed -n 's/^FragmentPath=//p; s/^DropInPaths=//p')
    # systemd separates the paths with spaces.
    set -f
    for file in $files; do echo "$file"; sed '/^[[:space:]]*[#;]/d' -- "$file"; done 2>/dev/null | sha256sum | cut -c 1-64
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
# What is in the environment files besides that of etcd, which the process itself tells.
environment() {
    environment_files "$1" | while IFS= read -r file; do
        [ ! -f "$file" ] || sed '/^[[:space:]]*[#;]/d; /^ETCD_/d; /^$/d' -- "$file"
    done 2>/dev/null | sha256sum | cut -c 1-64
}
# All that a unit is started with; $1 as above.
origin() { printf '%s\t%s\t%s\n' "$(definition "$1")" "$(authorities "$1")" "$(environment "$1")"; }
# Tells this process from any other: its number, and when it was started, in
# ticks since boot (the name before it may hold spaces and brackets).
process() {
    start=
    { read -r start < "/proc/$1/stat"; } 2>/dev/null
    # Fields 1 and 2 are before it.
    start=${start##*) } number=$1
    # shellcheck disable=SC2086
    set -- $start
    printf '%s %s\n' "$number" "${20:-}"
}
# What a unit was started with, by the hashes above.
started_with() { printf '%s\n' "/run/etcd-tools.started/$1"; }
