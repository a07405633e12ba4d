# After known.sh: whether the folders are etcd's, what room they have, and which etcd would
# run there.
later="run etcd-push first; where a cluster serves that this node is no member of, leave it out, and add it afterwards with scripts/grow"
id -u "$user" >/dev/null 2>&1 || die "user $user: no such user: $later"
for folder in "$data" ${wal:+"$wal"}; do
    [ -d "$folder" ] || die "$folder: no such folder: $later"
    room "$folder" etcd-restore
    echo "room$tab$free"
done
owned
# Where no member serves, its data says which revision it has reached. One that runs has
# locked them.
database=$data/member/snap/db
if [ -f "$database" ] && flock -n -s "$database" true 2>/dev/null; then
    tool=$bin/etcdutl
    [ -x "$tool" ] || tool=$bin/etcdctl
    revision=$(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups \
        timeout 240 env -i ETCDCTL_API=3 "$tool" snapshot status "$database" -w json 2>/dev/null < /dev/null |
        sed -n 's/.*"revision":\([0-9]*\).*/\1/p')
    echo "reached$tab$revision"
fi
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
