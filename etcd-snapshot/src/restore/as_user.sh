# Runs the script $3 as the user $1, who owns the data directory $2: root changes nothing
# in a folder in which another may place links. The rest are the script's arguments.
user=$1 data=$2 script=$3
shift 3
command -v setpriv >/dev/null || die "setpriv: not found: install util-linux"
uid=$(id -u "$user") && gid=$(id -g "$user") || die "user $user: no such user: run etcd-push first"
as_user() { setpriv --reuid="$uid" --regid="$gid" --clear-groups /bin/sh -c "$script" etcd-tools "$data" "$@"; }
cd /
