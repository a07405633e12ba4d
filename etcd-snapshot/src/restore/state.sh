# After known.sh: whether the folders are etcd's, what room they have, and which etcd would
# run there.
id -u "$user" >/dev/null 2>&1 || die "user $user: no such user: run etcd-push first"
for folder in "$data" ${wal:+"$wal"}; do
    [ -d "$folder" ] || die "$folder: no such folder: run etcd-push first"
    owner=$(stat -L -c %U -- "$folder")
    [ "$owner" = "$user" ] || die "$folder: belongs to $owner, and etcd runs as $user: run etcd-push first"
    room "$folder" etcd-restore
    echo "room$tab$free"
done
version
