# Marks the member as restored, and swaps. The first argument is the mark, the rest is for
# the swap.
mark=$1
shift
# A process of etcd that systemd does not know of would go on writing to what was moved.
folder=$(readlink -f -- "$data")/member
open=$(find /proc/[0-9]*/fd -lname "$folder/*" 2>/dev/null | head -n 1)
if [ "$open" ]; then
    pid=${open#/proc/}
    pid=${pid%%/*}
    die "$folder: process $pid ($(cat "/proc/$pid/comm")) has it open: stop it first: nothing is changed"
fi
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
