# Goes before a script that changes something. Argument: TOKEN, of the lock that its run holds.
lock=/run/etcd-tools.lock work=/run/etcd-tools.work
exec 8>>$work || die "$work: opening it failed"
flock -w 10 8 || die "another script of these tools is at work: run again"
{ read -r holder; read -r token; } < $lock
if flock -n $lock true; then
    die "lock lost: the host freed it while this run was paused or cut off"
fi
[ "$token" = "$1" ] || die "lock lost: locked by $holder"
echo "$$ $(cut -d ' ' -f 5 /proc/$$/stat)" > $work
shift
