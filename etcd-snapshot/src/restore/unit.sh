# Whether etcd's unit keeps the mark $mark of its member, as that of these tools does: it
# replaces it once the member is ready. One that others have written knows nothing of it.
keeps_mark() {
    for root in /etc /usr/local/lib /usr/lib /lib; do
        unit=$root/systemd/system/etcd.service
        [ ! -f "$unit" ] || { grep -q -F -- "$mark" "$unit"; return; }
    done
}
# Sets $process to the one that has the data open, in words: one that systemd does not know of
# would go on writing.
opener() {
    process='' open=$(find /proc/[0-9]*/fd -lname "$(readlink -f -- "$data")/member/*" 2>/dev/null | head -n 1)
    [ "$open" ] || return 0
    pid=${open#/proc/}
    pid=${pid%%/*}
    process="process $pid ($(cat "/proc/$pid/comm"))"
}
