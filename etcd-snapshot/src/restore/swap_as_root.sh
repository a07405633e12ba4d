# Marks the member as restored, and swaps. The first argument is the mark, the rest is for
# the swap.
mark=$1
shift
opener
[ ! "$process" ] || die "$(readlink -f -- "$data")/member: $process has it open: stop it first: nothing is changed"
if [ -e "$data/etcd-restore/stamp" ] && keeps_mark; then
    # With this mark the member never starts without data, whenever the swap is cut off.
    # Its unit replaces it once the member is ready.
    folder=${mark%/*} new=${mark%/*}/.${mark##*/}.etcd-tools
    log=$data/member/wal
    if [ "$1" ]; then log=$1/wal; fi
    { printf '%s\n' restored "$data" "$log" > "$new" && chmod 644 "$new" && sync "$new" && mv -fT -- "$new" "$mark" && sync "$folder"; } ||
        die "$mark: writing it failed: run again"
fi
as_user "$@" || exit 1
