# Whether etcd's unit keeps the mark $mark of its member, as that of these tools does: it
# replaces it once the member is ready. One that others have written knows nothing of it.
keeps_mark() {
    for root in /etc /usr/local/lib /usr/lib /lib; do
        unit=$root/systemd/system/etcd.service
        [ ! -f "$unit" ] || { grep -q -F -- "$mark" "$unit"; return; }
    done
}
