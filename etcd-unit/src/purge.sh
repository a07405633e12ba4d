# Removes the data of etcd and what these tools put on the host, and says each
# path. $1: "check" only says them; $2: the user that etcd runs as; $3 to $5:
# the folders of the configuration, the certificates and the binaries; the rest
# are the folders of the data.
check=$1 user=$2 config=$3 certs=$4 bin=$5
shift 5
releases=/usr/local/lib/etcd-tools
for folder; do
    [ -d "$folder" ] || continue
    [ "$(stat -c %U "$folder")" = "$user" ] || die "$folder: not a folder of the user $user: nothing is removed"
done
for folder; do
    [ -d "$folder" ] || continue
    echo "$folder"
    [ "$check" ] && continue
    find "$folder" -xdev -mindepth 1 -delete || die "$folder: removing what is in it failed"
    # A mount point stays, empty.
    rmdir "$folder" 2>/dev/null
done
remove() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    echo "$1"
    [ "$check" ] || rm -rf -- "$1" || die "$1: removing it failed"
}
remove "$config/etcd.conf"
for name in ca.crt server.crt server.key peer.crt peer.key; do remove "$certs/$name"; done
# What a killed run left; it may be a key.
for left in "$config"/.*.etcd-tools "$certs"/.*.etcd-tools "$bin"/.*.etcd-tools; do remove "$left"; done
for link in "$bin"/*; do
    case $(readlink "$link") in "$releases"/*) remove "$link" ;; esac
done
remove "$releases"
[ "$check" ] || rmdir "$certs" "$config" 2>/dev/null
true
