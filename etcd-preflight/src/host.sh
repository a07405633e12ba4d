# Says what the host is and has, a fact a line, fields separated by tabs. stdin: where the
# write-ahead log will lie, the data folder, the folder of the certificates, two ports, and the
# folders that are written to; a line each.
read -r wal && read -r data && read -r certificates && read -r ports || die "the query was truncated in transit"
tab=$(printf '\t')
say() { printf '%s\t%s\n' "$1" "$2"; }
say kernel "$(uname -r)"
say machine "$(uname -m)"
say hostname "$(uname -n)"
say systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
say id "$(cat /etc/machine-id 2>/dev/null)"
say memory "$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
swap=0
{
    read -r _
    while read -r _ _ size _; do swap=$((swap + size)); done
} < /proc/swaps
say swap "$swap"
say files "$(cat /proc/sys/fs/nr_open)"

nearest() { # FOLDER: sets $folder to the nearest one that is there
    folder=$1
    while [ ! -d "$folder" ]; do
        folder=${folder%/*}
        folder=${folder:-/}
    done
}
# Where not even root can write, as on a disk that is damaged.
while IFS= read -r folder; do
    nearest "$folder"
    if [ ! -w "$folder" ]; then say read-only "$folder"; fi
done
# Where the log will lie once its folder is made.
nearest "$wal"
say folder "$folder"
say free $(($(stat -f -c '%a * %S' -- "$folder") / 1024))
used=0
if [ -d "$data" ]; then used=$(du -sk -- "$data" | cut -f 1); fi
say used "$used"
say filesystem "$(stat -f -c %T -- "$folder")"
# A partition says whether it rotates through its disk.
device=$(df -P -- "$folder" | sed -n '2s/ .*//p')
number=$(stat -L -c '%t %T' -- "$device" 2>/dev/null)
if [ -b "$device" ] && [ "$number" ]; then
    block=/sys/dev/block/$((0x${number% *})):$((0x${number#* }))
    for file in "$block/queue/rotational" "$block/../queue/rotational"; do
        if [ -e "$file" ]; then
            say rotational "$(cat "$file")"
            break
        fi
    done
fi

if [ -e /sys/fs/selinux/enforce ]; then say selinux "$(cat /sys/fs/selinux/enforce)"; fi
grep -E '^(.*/)?etcd \(enforce\)' /sys/kernel/security/apparmor/profiles 2>/dev/null | sed "s/^/apparmor$tab/"

# systemd before 235 knows no `show`.
synchronized=$(timedatectl show -p NTPSynchronized 2>/dev/null || timedatectl 2>/dev/null)
case $synchronized in
NTPSynchronized=yes | *"synchronized: yes"*) say synchronized yes ;;
*) say synchronized no ;;
esac

# Who listens on the ports; one in a container with a network of its own is none of the node's.
# Sets $inodes to the sockets that listen on the port $1, in hex; etcd has no use for the
# loopback of the last port, that for its peers.
listening() {
    inodes=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ at _ state _ _ _ _ _ inode _; do
        # 0A is LISTEN.
        [ "$state" = 0A ] && [ "${at##*:}" = "$1" ] || continue
        case $2$at in peer0100007F:* | peer00000000000000000000000001000000:*) continue ;; esac
        echo "$inode"
    done)
}
owner_of() { # INODES: sets $owner
    owner=
    for inode in $1; do
        found=$(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" 2>/dev/null | head -n 1)
        [ "$found" ] || continue
        pid=${found#/proc/}
        pid=${pid%%/*}
        read -r name 2>/dev/null < "/proc/$pid/comm" || name='?'
        owner="process $pid ($name)"
        return
    done
}
what=client
for port in $ports; do
    hex=$(printf '%04X' "$port")
    # A process that ends closes its sockets one after the other: nobody has this one, and it is
    # gone in a moment.
    for attempt in 1 2 3; do
        listening "$hex" $what
        owner_of "$inodes"
        if [ ! "$inodes" ] || [ "$owner" ]; then break; fi
        [ $attempt = 3 ] || sleep 0.3
    done
    what=peer
    [ "$inodes" ] || continue
    say port "$port$tab${owner:-another process}"
done

# Certificates only, whatever else a file holds.
for file in "$certificates"/*.crt; do
    [ -f "$file" ] || continue
    say certificate "$file"
    head -c 262144 "$file" | sed -n '/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p' | sed "s/^/pem$tab/"
done
true
