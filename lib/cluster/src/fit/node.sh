# Says what of etcd runs and lies on the node. What it is asked for stands in the
# lines of stdin.
(
tab=$(printf '\t')
say() { printf 'fit\t%s\n' "$1"; }
data= wal= user= ca= config= mark= binaries=
while IFS=$tab read -r kind value; do
    case $kind in
    data) data=$value ;;
    wal) wal=$value ;;
    user) user=$value ;;
    ca) ca=$value ;;
    config) config=$value ;;
    mark) mark=$value ;;
    binary) binaries="$binaries $value" ;;
    end) break ;;
    esac
done
exec </dev/null

version() { timeout 10 "$1" --version 2>&1 | head -n 1; }

seen=
folder() { # DATA WAL
    [ "$1" ] || return 0
    wal_folder=${2:-$1/member/wal}
    case $seen in *"|$1$tab$wal_folder|"*) return 0 ;; esac
    seen="$seen|$1$tab$wal_folder|"
    set -- "$1" "$wal_folder" "$wal_folder"/*.wal
    database= head= stranger= owner=
    if [ -e "$1/member/snap/db" ]; then database=db; fi
    if [ -e "$3" ]; then head=$(head -c 128 "$3" | od -An -v -tx1 | tr -d ' \n'); fi
    if [ "$database$head" ]; then
        stranger=$(find "$1/member" "$2" -maxdepth 2 ! -user "$user" -print 2>/dev/null | head -n 1)
        if [ "$stranger" ]; then owner=$(stat -c %U "$stranger"); fi
    fi
    say "folder$tab$1$tab$2$tab$database$tab$head$tab$stranger$tab$owner"
}

# Before the folders: a member that is starting now makes its log first, then the mark.
if [ -e "$mark" ]; then
    word=
    read -r word < "$mark"
    say "mark$tab$word"
fi

for at in /etc/systemd/system /run/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
    if [ -e "$at/etcd.service" ] && ! [ "$at/etcd.service" -ef /dev/null ]; then
        say "unit$tab$at/etcd.service"
        break
    fi
done

# One in a container with a network of its own is none of the node's.
for process in /proc/[0-9]*; do
    { read -r name < "$process/comm"; } 2>/dev/null || continue
    [ "$name" = etcd ] && [ "$process/ns/net" -ef /proc/self/ns/net ] || continue
    exe=$(readlink "$process/exe") || continue
    unit=
    while IFS=: read -r _ controllers path; do
        case $controllers in '' | name=systemd) unit=${path##*/} ;; esac
    done < "$process/cgroup"
    case $exe in
    /usr/local/lib/etcd-tools/v*-*/etcd*)
        running=${exe#/usr/local/lib/etcd-tools/}
        running=${running%%-*}
        ;;
    *) running=$(version "$process/exe" | sed -n 's/^etcd Version: //p') ;;
    esac
    say "process$tab${process#/proc/}$tab$exe$tab$unit$tab$running"
    variables=$(tr '\0' '\n' < "$process/environ" | grep '^ETCD_')
    printf '%s\n' "$variables" | sed "s/^/fit${tab}variable$tab/"
    folder "$(printf '%s\n' "$variables" | sed -n 's/^ETCD_DATA_DIR=//p')" \
        "$(printf '%s\n' "$variables" | sed -n 's/^ETCD_WAL_DIR=//p')"
done

if [ -f "$config" ]; then
    configured() { sed -n "s/^$1=//p" "$config" | tr -d "\"'" | tail -n 1; }
    { head -c 65536 "$config"; echo; } | sed "s/^/fit${tab}config$tab/"
    folder "$(configured ETCD_DATA_DIR)" "$(configured ETCD_WAL_DIR)"
fi
folder "$data" "$wal"

if [ -f "$ca" ]; then { head -c 262144 "$ca"; echo; } | sed "s/^/fit${tab}ca$tab/"; fi
for binary in $binaries; do
    if [ -e "$binary" ]; then say "binary$tab$binary$tab$(version "$binary")"; fi
done
true
) || exit 1
