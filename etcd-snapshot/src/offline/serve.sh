# Serves a copy of the data, as etcd's user and on the loopback only, until it is told to
# end. The copy goes with it.
data=$1 wal=$2
shift 2
copy=$data/etcd-offline
child=
finish() { # CODE
    trap '' HUP INT TERM
    [ ! "$child" ] || { kill "$child"; wait "$child"; } 2>/dev/null
    rm -rf -- "$copy"
    exit "$1"
}
trap 'finish 0' HUP INT TERM
rm -rf -- "$copy" && mkdir -m 700 -- "$copy" || finish 1
# In the background: a signal is to be obeyed at once.
copy() {
    cp -a --reflink=auto -- "$data/member" "$copy/member" &&
        { [ ! "$wal" ] || cp -a --reflink=auto -- "$wal/wal" "$copy/member/wal"; }
}
copy &
child=$!
wait "$child" || finish 1
"$@" --data-dir "$copy" --force-new-cluster &
child=$!
wait "$child"
finish $?
