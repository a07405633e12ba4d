# Unless the transient unit runs, says so, and what it said.
state=$(systemctl show etcd-tools-offline -p ActiveState,InvocationID)
case $state in
*ActiveState=active*) ;;
*)
    journalctl --sync 2>/dev/null
    set -- -u etcd-tools-offline
    case $state in *InvocationID=?*) set -- "_SYSTEMD_INVOCATION_ID=${state##*InvocationID=}" ;; esac
    echo ended
    journalctl "$@" -n 400 --no-pager -o cat 2>/dev/null
    ;;
esac
true
