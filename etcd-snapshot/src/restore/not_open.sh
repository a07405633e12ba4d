# A process of etcd that systemd does not know of would go on writing to what was moved.
folder=$(readlink -f -- "$data")/member
open=$(find /proc/[0-9]*/fd -lname "$folder/*" 2>/dev/null | head -n 1)
if [ "$open" ]; then
    pid=${open#/proc/}
    pid=${pid%%/*}
    die "$folder: process $pid ($(cat "/proc/$pid/comm")) has it open: stop it first: nothing is changed"
fi
as_user "$@" || exit 1
