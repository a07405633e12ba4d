# Removes the data of etcd and what these tools put on the host, and says each
# path; what is in the folders of the data and is not etcd's stays, and is said, too.
# On stdin, one a line: "check", which only says them, or nothing; the user that etcd
# runs as; the folders of the configuration, the certificates and the binaries; then the
# folders of the data.
read -r check
read -r user
read -r config
read -r certs
read -r bin
folders=$(cat)
releases=/usr/local/lib/etcd-tools
newline='
'
# All is known to be right before anything is removed.
printf '%s\n' "$folders" | while IFS= read -r folder; do
    [ -d "$folder" ] || continue
    folder=$(readlink -f "$folder")
    owner=$(stat -c %U "$folder")
    # Folders of the system are root's.
    [ "$owner" = "$user" ] && [ "$owner" != root ] || die "$folder: not a folder of the user $user: nothing is removed"
    # What is mounted in it is of others, but for another folder of the data.
    cut -d ' ' -f 5 /proc/self/mountinfo | while IFS= read -r mount; do
        case $mount in "$folder"/*) ;; *) continue ;; esac
        printf '%s\n' "$folders" | grep -qxF -- "$mount" ||
            die "$folder: $mount is mounted in it: unmount that first: nothing is removed"
    done || exit 1
    open=$(find /proc/[0-9]*/fd /proc/[0-9]*/cwd -lname "$folder/*" 2>/dev/null | head -n 1)
    if [ "$open" ] && [ ! "$check" ]; then
        pid=${open#/proc/}
        pid=${pid%%/*}
        die "$folder: process $pid ($(cat "/proc/$pid/comm")) has it open: stop it first: nothing is removed"
    fi
done || exit 1
printf '%s\n' "$folders" | while IFS= read -r folder; do
    [ -d "$folder" ] || continue
    left='' own='' is_empty=1
    for entry in "$folder"/* "$folder"/.[!.]*; do
        [ -e "$entry" ] || [ -L "$entry" ] || continue
        # Another folder of the data has its turn.
        printf '%s\n' "$folders" | grep -qxF -- "$entry" && continue
        is_empty=
        case ${entry##*/} in
        lost+found) ;;
        member | member.old | wal | wal.old | etcd-restore | etcd-restored | etcd-offline | before-restore-* | .etcd-tools | .etcd-preflight.*)
            own=$own$entry$newline
            [ "$check" ] || find "$entry" -xdev -delete || die "$entry: removing it failed"
            ;;
        *) left=${left:-$entry} ;;
        esac
    done
    if [ "$left" ]; then
        printf '%sleft\t%s\n' "$own" "${left%%"$newline"*}"
    elif [ "$own$is_empty" ]; then
        printf '%s\n' "$folder"
    fi
    # A mount point stays, empty.
    [ "$check" ] || rmdir "$folder" 2>/dev/null
    true
done || exit 1
remove() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    echo "$1"
    [ "$check" ] || rm -rf -- "$1" || die "$1: removing it failed"
}
remove "$config/etcd.conf"
remove "$config/etcd.member"
for name in ca.crt server.crt server.key peer.crt peer.key; do remove "$certs/$name"; done
# What an interrupted run left; it may be a key.
for stale in "$config"/.*.etcd-tools "$certs"/.*.etcd-tools "$bin"/.*.etcd-tools; do remove "$stale"; done
for link in "$bin"/*; do
    case $(readlink "$link") in "$releases"/*) remove "$link" ;; esac
done
remove "$releases"
[ "$check" ] || rmdir "$certs" "$config" 2>/dev/null
true
