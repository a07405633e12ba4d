# Answers queries; with a HOLDER it takes the lock of the host first, and holds it for as
# long as heartbeats come on stdin. Arguments: HOLDER (empty: no lock), TOKEN, HELPERS,
# then SIZE and SCRIPT of each query. The queries' input comes on stdin, in their order.
holder=$1 token=$2 helpers=$3
shift 3
case $(stat --version 2>/dev/null) in
*coreutils*) ;;
*) die "no GNU coreutils here (busybox?): install the coreutils package" ;;
esac
lock=/run/etcd-tools.lock work=/run/etcd-tools.work
if [ "$holder" ]; then
    command -v flock >/dev/null || die "flock: not found: install util-linux"
    exec 9>>$lock || die "$lock: opening it failed"
    if ! flock -n 9; then
        { read -r other; read -r others_token; } < $lock
        printf 'busy %s %s\n' "$others_token" "$other"
        echo @etcd-tools-end
        exit 0
    fi
    printf '%s\n' "$holder" "$token" > $lock
    echo locked
    # Whoever still works here is left of a run that was killed, or cut off from the host:
    # without the lock that we have just taken, nobody begins.
    exec 8>>$work || die "$work: opening it failed"
    tries=0
    until flock -n 8; do
        tries=$((tries + 1))
        read -r pid group < $work
        [ $tries -le 100 ] || die "the script of an interrupted run does not end: see process $pid"
        signal=TERM
        [ $tries -le 50 ] || signal=KILL
        if [ "/proc/$pid/fd/8" -ef $work ]; then kill -s $signal -- "-$group" 2>/dev/null; fi
        sleep 0.1
    done
    exec 8>&-
fi
while [ $# -gt 0 ]; do
    head -c "$1" | timeout 300 sh -c "$helpers$2" etcd-tools 9>&-
    code=$?
    [ $code != 124 ] || die "reading the state of the host took more than 300 s"
    [ $code = 0 ] || exit 1
    echo @etcd-tools-next
    shift 2
done
echo @etcd-tools-end
if [ "$holder" ]; then
    # When the holder dies its connection closes; when its machine or the network dies,
    # the heartbeats stay away.
    while [ -n "$(timeout 30 dd bs=1 count=1 2>/dev/null 9>&-)" ]; do :; done
fi
exit 0
