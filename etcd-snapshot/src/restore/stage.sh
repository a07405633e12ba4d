# Restores the snapshot on stdin into a folder beside the data, for the swap to come.
# Whatever ends it before the stamp is there leaves nothing of it.
data=$1 wal=$2 bin=$3 size=$4 sha256=$5 identity=$6 revision=$7
attempt=$8 hash=$9
shift 9
raise=$1
shift
name=$1 cluster=$2 token=$3 url=$4
stage=$data/etcd-restore wal_stage=${wal:+$wal/etcd-restore}
die() { printf '%s\n' "$*" >&2; exit 1; }
# The stamp goes first: without it nobody takes the rest for whole.
clean() { rm -f -- "$stage/stamp" && rm -rf -- "$stage" ${wal:+"$wal_stage"}; }
staged=
finish() { [ "$staged" ] || clean; }
trap '' PIPE
trap finish EXIT
trap 'exit 1' HUP INT TERM
# What a tool says last is its reason, but for a stack.
last() { printf '%s\n' "$1" | grep -m 1 '^panic: ' || printf '%s\n' "$1" | tail -n 1; }
clean && rm -rf -- "$data/etcd-offline" || die "$stage: removing it failed"
for folder in "$stage" ${wal:+"$wal_stage"}; do
    said=$(mkdir -- "$folder" 2>&1) || die "$folder: making the folder: ${said##*: }"
done
said=$({ head -c "$size" > "$stage/snapshot"; } 2>&1) || die "$stage/snapshot: writing: ${said##*: }"
sum=$(sha256sum < "$stage/snapshot")
[ "${sum%% *}" = "$sha256" ] ||
    die "$stage/snapshot: what arrived is not the snapshot that was checked: it was changed meanwhile, or cut off: run again"
tool=$bin/etcdutl
[ -x "$tool" ] || tool=$bin/etcdctl
[ -x "$tool" ] || die "$tool: not found: run etcd-push with a release that has it"
set -- snapshot restore "$stage/snapshot" --data-dir "$stage/data" --name "$name" \
    --initial-cluster "$cluster" --initial-cluster-token "$token" --initial-advertise-peer-urls "$url"
if [ "$wal" ]; then set -- "$@" --wal-dir "$wal_stage/wal"; fi
if [ "$hash" = skip ]; then set -- "$@" --skip-hash-check; fi
if [ "$raise" != 0 ]; then set -- "$@" --bump-revision "$raise" --mark-compacted; fi
said=$(env -i PATH="$PATH" ETCDCTL_API=3 "$tool" "$@" 2>&1 < /dev/null) || die "$tool: restoring: $(last "$said")"
[ -e "$stage/data/member/snap/db" ] || die "$tool: restoring: there is no database in $stage/data: $(last "$said")"
rm -- "$stage/snapshot"
{ sync -f "$stage" ${wal:+"$wal_stage"} 2>/dev/null || sync; } || die "$stage: syncing failed"
"$bin/etcd" --version 2>/dev/null < /dev/null | sed -n 's/^etcd Version: //p' > "$stage/release"
said=$({ printf '%s\n' "$identity" "$revision" "$attempt" > "$stage/stamp.new"; } 2>&1) || die "$stage/stamp: writing: ${said##*: }"
sync -f "$stage" 2>/dev/null || sync
mv -T -- "$stage/stamp.new" "$stage/stamp" || die "$stage/stamp: renaming into place failed"
staged=1
sync -f "$stage" 2>/dev/null || sync
