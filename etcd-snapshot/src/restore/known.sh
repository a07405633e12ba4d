# Says what of a restore lies on the node. On stdin, one a line: the data directory, the
# folder of the write-ahead log when it has one of its own, the folder of the binaries,
# etcd's user, and the mark of the member.
read -r data && read -r wal && read -r bin && read -r user && read -r mark || die "the query was truncated in transit"
cat > /dev/null
tab=$(printf '\t')
lines() { # KIND FILE
    # What root reads here was not placed by root.
    [ -f "$2" ] && [ ! -L "$2" ] || return 0
    head -c 65536 -- "$2" | sed "s/^/$1$tab/"
}
lines staged "$data/etcd-restore/stamp"
lines release "$data/etcd-restore/release"
lines restored "$data/etcd-restored"
if keeps_mark; then
    lines mark "$mark"
elif [ -f "$data/etcd-restored" ]; then
    # etcd writes to its log whenever it starts.
    ran=$(find "${wal:-$data/member}/wal" -name '*.wal' -newer "$data/etcd-restored" 2>/dev/null | head -n 1)
    echo "mark$tab$([ "$ran" ] && echo ready || echo restored)"
fi
# Dies where the data, its log or what they are in belongs to another than etcd's user, who
# could not move or read it.
owned() {
    for folder in "$data" ${wal:+"$wal"}; do
        for path in "$folder/" "$folder/member" "$folder/wal"; do
            [ -e "$path" ] || continue
            depth=2
            if [ "$path" = "$folder/" ]; then depth=0; fi
            other=$(find "$path" -maxdepth $depth ! -user "$user" | head -n 1)
            [ ! "$other" ] || die "$other: belongs to $(stat -c %U -- "$other"), and etcd runs as $user: on this host, run: chown -R $user: $path"
        done
    done
}
# Says which process has the data open.
opened() {
    opener
    [ ! "$process" ] || echo "open$tab$process"
}
# Says which etcd would run on the data.
version() {
    [ -x "$bin/etcd" ] || die "$bin/etcd: not found: run etcd-push first"
    echo "version$tab$(timeout 10 "$bin/etcd" --version 2>&1 < /dev/null | sed -n 's/^etcd Version: //p')"
}
# Sets $free to the bytes that are free in the folder $1, with those that an earlier run left
# in $1/$2: it makes room.
room() {
    stale=$(du -s --block-size=1 -- "$1/$2" 2>/dev/null | cut -f 1)
    disk=$(stat -f -c '%a %S' -- "$1") || die "$1: asking for its free space failed"
    free=$((${disk% *} * ${disk#* } + ${stale:-0}))
}
