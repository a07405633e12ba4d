# Says what of a restore lies on the node, and which etcd would run on it. On stdin,
# one a line: the data directory, the folder of the write-ahead log when it has one of
# its own, the folder of the binaries, etcd's user, and the mark of the member.
read -r data && read -r wal && read -r bin && read -r user && read -r mark || die "the query was truncated in transit"
cat > /dev/null
tab=$(printf '\t')
id -u "$user" >/dev/null 2>&1 || die "user $user: no such user: run etcd-push first"
for folder in "$data" ${wal:+"$wal"}; do
    [ -d "$folder" ] || die "$folder: no such folder: run etcd-push first"
    owner=$(stat -L -c %U -- "$folder")
    [ "$owner" = "$user" ] || die "$folder: belongs to $owner, and etcd runs as $user: run etcd-push first"
    # What an earlier run has staged makes room.
    stale=$(du -s --block-size=1 -- "$folder/etcd-restore" 2>/dev/null | cut -f 1)
    disk=$(stat -f -c '%a %S' -- "$folder") || die "$folder: asking for its free space failed"
    echo "room$tab$((${disk% *} * ${disk#* } + ${stale:-0}))"
done
[ -x "$bin/etcd" ] || die "$bin/etcd: not found: run etcd-push first"
echo "version$tab$(timeout 10 "$bin/etcd" --version 2>&1 < /dev/null | sed -n 's/^etcd Version: //p')"
lines() { # KIND FILE
    # What root reads here was not placed by root.
    [ -f "$2" ] && [ ! -L "$2" ] || return 0
    head -c 65536 -- "$2" | sed "s/^/$1$tab/"
}
lines staged "$data/etcd-restore/stamp"
lines restored "$data/etcd-restored"
lines mark "$mark"
