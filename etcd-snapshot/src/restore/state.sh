# After known.sh: whether the folders are etcd's, what room they have, and which etcd would
# run there.
later="run etcd-push first, or where others have deployed etcd, set user, dataDir and binDir in the document as it has them; where a cluster serves that this node is no member of, leave it out, and add it afterwards with scripts/grow"
id -u "$user" >/dev/null 2>&1 || die "user $user: no such user: $later"
for folder in "$data" ${wal:+"$wal"}; do
    [ -d "$folder" ] || die "$folder: no such folder: $later"
    # Where one is read-only, none is to be changed.
    [ -w "$folder" ] || die "$folder: nothing can be written there: mount it read-write"
    room "$folder" etcd-restore
    echo "room$tab$free"
done
owned
aside=$(lines aside "$data/etcd-restored" | sed -n 4p)
aside=${aside#*"$tab"}
case $aside in
*/*) ;;
before-restore-*)
    for folder in "$data" ${wal:+"$wal"}; do
        if [ -d "$folder/$aside" ]; then echo "old$tab$folder/$aside"; fi
    done
    ;;
esac
opened
version
