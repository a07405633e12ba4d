# Fails with what the transient unit said last unless it runs.
state=$(systemctl show etcd-tools-offline -p ActiveState)
if [ "$state" != ActiveState=active ]; then
    journalctl --sync 2>/dev/null
    said=$(journalctl -u etcd-tools-offline -n 20 --no-pager -o cat 2>/dev/null)
    why=$(printf '%s\n' "$said" | grep -e '"level":"\(fatal\|panic\)"' -e '^panic: ' -e '^cp: ' | tail -n 1)
    die "the copy of its data did not start: ${why:-$(printf '%s\n' "$said" | tail -n 1)}"
fi
