# Says what data of a member lies on the node, and what it takes to copy it. On stdin, one
# a line: the data directory, the folder of the write-ahead log when it has one of its own,
# the folder of the binaries, etcd's user, and the mark of the member.
read -r data && read -r wal && read -r bin && read -r user && read -r mark || die "the query was truncated in transit"
cat > /dev/null
tab=$(printf '\t')
lines() { # KIND FILE
    # What root reads here was not placed by root.
    [ -f "$2" ] && [ ! -L "$2" ] || return 0
    head -c 65536 -- "$2" | sed "s/^/$1$tab/"
}
lines staged "$data/etcd-restore/stamp"
lines restored "$data/etcd-restored"
lines mark "$mark"
set -- "${wal:-$data/member}"/wal/*.wal
if [ -e "$1" ] && [ -e "$data/member/snap/db" ]; then
    [ -x "$bin/etcd" ] || die "$bin/etcd: not found: run etcd-push first"
    echo "version$tab$(timeout 10 "$bin/etcd" --version 2>&1 < /dev/null | sed -n 's/^etcd Version: //p')"
    echo "database$tab$(stat -c %s -- "$data/member/snap/db")"
    bytes=$(du -sc --apparent-size --block-size=1 -- "$data/member" ${wal:+"$wal/wal"} | tail -n 1 | cut -f 1)
    stale=$(du -s --block-size=1 -- "$data/etcd-offline" 2>/dev/null | cut -f 1)
    disk=$(stat -f -c '%a %S' -- "$data") || die "$data: asking for its free space failed"
    echo "copy$tab$bytes$tab$((${disk% *} * ${disk#* } + ${stale:-0}))"
    folder=$(readlink -f -- "$data")/member
    open=$(find /proc/[0-9]*/fd -lname "$folder/*" 2>/dev/null | head -n 1)
    if [ "$open" ]; then
        pid=${open#/proc/}
        pid=${pid%%/*}
        echo "open${tab}process $pid ($(cat "/proc/$pid/comm"))"
    fi
fi
true
