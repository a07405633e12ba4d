# After restore/known.sh: what data of a member lies on the node, and what it takes to copy
# it.
set -- "${wal:-$data/member}"/wal/*.wal
if [ -e "$1" ] && [ -e "$data/member/snap/db" ]; then
    owned
    version
    echo "database$tab$(stat -c %s -- "$data/member/snap/db")"
    bytes=$(du -sc --apparent-size --block-size=1 -- "$data/member" ${wal:+"$wal/wal"} | tail -n 1 | cut -f 1)
    room "$data" etcd-offline
    echo "copy$tab$bytes$tab$free"
    opened
elif [ -e "$data/member/snap/db" ]; then
    echo alone
fi
true
