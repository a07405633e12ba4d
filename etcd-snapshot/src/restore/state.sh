# After known.sh: whether the folders are etcd's, what room they have, and which etcd would
# run there.
id -u "$user" >/dev/null 2>&1 || die "user $user: no such user: run etcd-push first"
for folder in "$data" ${wal:+"$wal"}; do
    [ -d "$folder" ] || die "$folder: no such folder: run etcd-push first"
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
version
