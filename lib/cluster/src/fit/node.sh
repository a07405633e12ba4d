# Says what of etcd runs and lies on the node. What it is asked for stands in the
# lines of stdin.
(
tab=$(printf '\t')
newline='
'
blanks=" $tab$newline"
say() { printf 'fit\t%s\n' "$1"; }
data= wal= user= ca= config= mark= ports= binaries=
while IFS=$tab read -r kind value; do
    case $kind in
    data) data=$value ;;
    wal) wal=$value ;;
    user) user=$value ;;
    ca) ca=$value ;;
    config) config=$value ;;
    mark) mark=$value ;;
    ports) ports=$value ;;
    binary) binaries="$binaries $value" ;;
    end) break ;;
    esac
done
exec </dev/null

# Of each system and each boot one of its own, unlike the machine id of a copy.
{ read -r boot < /proc/sys/kernel/random/boot_id && say "boot$tab$boot"; } 2>/dev/null

# Sets $value to what stands behind the last $2 in the text $1, up to the end of the line.
# Every process costs the host a millisecond or two: hence no sed for this.
last() {
    value=
    case $1 in *"$2"*) value=${1##*"$2"} value=${value%%"$newline"*} ;; esac
}

# Sets $value to what the binary $1 says of its version. It takes its time for that, so what
# a good one has said is kept until the next boot, by what changes with the file.
versions=/run/etcd-tools.versions
version() {
    kept=$versions/$(stat -L -c '%d-%i-%s-%.9Z' -- "$1")
    value=
    { read -r value < "$kept"; } 2>/dev/null && return
    value=$(timeout 10 "$1" --version 2>&1 | head -n 1)
    case $value in 'etcd Version: '*) mkdir -p $versions && printf '%s\n' "$value" > "$kept" ;; esac 2>/dev/null
}

# Says the last value that the lines on stdin give the variable $1, or the flag $2.
given() { sed -n "s/.*\($1=\|-$2[= ]\)[\"']\{0,1\}\([^ \"']*\).*/\2/p" | tail -n 1; }

# Sets $value to its arguments, put together.
join() { IFS=; value="$*"; IFS=$blanks; }

# Says those of the lines $2 that begin with $3.
each() { # KIND LINES BEGIN
    set -f
    IFS=$newline
    for line in $2; do
        case $line in "$3"*) say "$1$tab$line" ;; esac
    done
    IFS=$blanks
    set +f
}

seen=
folder() { # DATA WAL
    [ "$1" ] || return 0
    wal_folder=${2:-$1/member/wal}
    case $seen in *"|$1$tab$wal_folder|"*) return 0 ;; esac
    seen="$seen|$1$tab$wal_folder|"
    set -- "$1" "$wal_folder" "$wal_folder"/*.wal
    database= head= stranger= owner=
    if [ -e "$1/member/snap/db" ]; then database=db; fi
    if [ -e "$3" ]; then join $(od -An -v -tx1 -N 128 "$3"); head=$value; fi
    if [ "$database$head" ]; then
        # Without that user etcd runs as another, which the unit names.
        stranger=$(find -H "$1/member" "$2" -maxdepth 2 ! -user "$user" -print -quit 2>/dev/null)
        if [ "$stranger" ]; then owner=$(stat -c %U "$stranger"); fi
        # etcd writes a file, and makes room for a segment of its log, whenever it starts.
        if [ ! -w "$1" ] || { [ -d "$2" ] && [ ! -w "$2" ]; }; then
            say "unfit$tab$1${tab}read-only$tab"
        elif free=$(stat -f -c '%a * %S' -- "$2"); then
            free=$(($free / 1048576))
            [ $free -ge 64 ] || say "unfit$tab$1${tab}full$tab$free"
        fi 2>/dev/null
    fi
    if [ -L "$1/member" ]; then say "linked$tab$1$tab$(readlink -f -- "$1/member")"; fi
    say "folder$tab$1$tab$2$tab$database$tab$head$tab$stranger$tab$owner"
}

# Whether the process $1 has the files $2 and $3 open: what lies there now may be a copy. Where
# nobody tells, it has.
has_open() {
    [ -e "/proc/$1/fd/0" ] || return 0
    open=
    for fd in "/proc/$1/fd"/*; do
        if [ "$fd" -ef "$2" ]; then open="${open}a"; fi
        if [ "$fd" -ef "$3" ]; then open="${open}b"; fi
        case $open in *a*b* | *b*a*) return 0 ;; esac
    done
    return 1
}

# Where a process may listen at addresses that are no host's, these say nothing.
nonlocal=
{ read -r nonlocal < /proc/sys/net/ipv4/ip_nonlocal_bind; } 2>/dev/null
if [ "$nonlocal" != 1 ]; then
    IFS=$newline
    for line in $(ip -o addr show 2>/dev/null); do
        case $line in *' inet '* | *' inet6 '*) ;; *) continue ;; esac
        line=${line#* inet} line=${line#6} line=${line# }
        say "address$tab${line%%[ /]*}"
    done
    IFS=$blanks
fi

# Before the folders: a member that is starting now makes its log first, then the mark.
if [ -e "$mark" ]; then
    word= marked_data= marked_wal=
    { read -r word && IFS= read -r marked_data && IFS= read -r marked_wal; } < "$mark"
    say "mark$tab$word$tab$marked_data$tab$marked_wal"
    folder "$marked_data" "$marked_wal"
fi

# The unit file and its drop-ins: what systemd reads next, whatever it has read so far.
roots='/etc/systemd/system.control /run/systemd/system.control /run/systemd/transient
/run/systemd/generator.early /etc/systemd/system /run/systemd/system /run/systemd/generator
/usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system /run/systemd/generator.late'
# The specifiers that others use in a unit of etcd, as systemd reads them.
host=
{ read -r host < /proc/sys/kernel/hostname; } 2>/dev/null
specifiers="s/%%/\\n/g; s/%n/etcd.service/g; s/%[pN]/etcd/g; s/%H/$host/g; s/%l/${host%%.*}/g; s/%i//g
s,%E,/etc,g; s,%S,/var/lib,g; s,%C,/var/cache,g; s,%L,/var/log,g; s,%t,/run,g; s,%h,/root,g; s,%u,root,g
s/\\n/%%/g"
part() {
    printf 'fit\tpart\t%s\n' "$1"
    { head -c 65536 "$1"; echo; } | sed "$specifiers; s/^/fit${tab}line$tab/"
}
for at in $roots; do
    if [ "$at/etcd.service" -ef /dev/null ]; then
        say "masked$tab$at/etcd.service"
    elif [ -e "$at/etcd.service" ]; then
        say "unit$tab$at/etcd.service"
        break
    fi
    at=
done
definition=$(
    if [ "$at" ]; then part "$at/etcd.service"; fi
    names=
    for at in $roots; do
        for file in "$at"/etcd.service.d/*.conf "$at"/service.d/*.conf; do
            if [ -e "$file" ]; then names=$names${file##*/}$newline; fi
        done
    done
    [ "$names" ] || exit 0
    printf '%s' "$names" | LC_ALL=C sort -u | head -n 100 | while IFS= read -r name; do
        for kind in etcd.service.d service.d; do
            for at in $roots; do
                # One that is empty or leads to /dev/null hides those of its name.
                [ -e "$at/$kind/$name" ] || continue
                if [ -f "$at/$kind/$name" ]; then part "$at/$kind/$name"; fi
                break 2
            done
        done
    done
)
if [ "$definition" ]; then printf '%s\n' "$definition"; fi
each manager "$(systemctl show-environment 2>/dev/null)" ETCD_
# Mostly there is only the file that these tools write, which is read below.
others=${definition%%"EnvironmentFile=$config$newline"*}${definition#*"EnvironmentFile=$config$newline"}
files=$(
    case $others in *EnvironmentFile*) ;; *) exit 0 ;; esac
    printf '%s\n' "$definition" |
        sed -n "s/^fit${tab}line$tab[[:space:]]*EnvironmentFile[[:space:]]*=[[:space:]]*-\{0,1\}//p" | sort -u |
        while IFS= read -r pattern; do
            [ "$pattern" != "$config" ] || continue
            IFS=
            for file in $pattern; do
                [ -f "$file" ] || continue
                printf 'fit\tfile\t%s\t%s\n' "$pattern" "$file"
                { head -c 65536 "$file"; echo; } | sed "s/^/fit${tab}setting$tab/"
            done
        done
)
if [ "$files" ]; then printf '%s\n' "$files"; fi

# Units of others that run an etcd, and where they have its data: what is stopped is there, too.
# And what systemd gives to all units once it has read its own configuration again.
found=$(grep -HsE '^(ExecStart=[^ ]*/etcd([[:space:]]|$)|DefaultEnvironment=.*ETCD_)' \
    /etc/systemd/system/*.service /usr/local/lib/systemd/system/*.service \
    /etc/systemd/system.conf /etc/systemd/system.conf.d/*.conf /run/systemd/system.conf.d/*.conf \
    /usr/local/lib/systemd/system.conf.d/*.conf /usr/lib/systemd/system.conf.d/*.conf)
other=
while IFS= read -r line; do
    file=${line%%:*}
    case $file in
    *.conf) say "default$tab$file$tab${line#*=}" ;;
    '' | */etcd.service | "$other") ;;
    *)
        other=$file
        theirs=$(given ETCD_DATA_DIR data-dir < "$file")
        folder "$theirs" ''
        say "other$tab$file$tab$theirs"
        ;;
    esac
done <<END
$found
END

# One in a container with a network of its own is none of the node's.
used_ca= told=
for process in /proc/[0-9]*; do
    { read -r name < "$process/comm"; } 2>/dev/null || continue
    [ "$name" = etcd ] && [ "$process/ns/net" -ef /proc/self/ns/net ] || continue
    exe=$(readlink "$process/exe") || continue
    unit=
    while IFS=: read -r _ controllers path; do
        case $controllers in '' | name=systemd) unit=${path##*/} ;; esac
    done < "$process/cgroup"
    if [ "$unit" != etcd.service ]; then
        # Another run of these tools asks a binary for its version; a proxy is no member.
        case $(tr '\0' ' ' < "$process/cmdline") in
        *' --version '* | *etcd' gateway '* | *etcd' grpc-proxy '*) continue ;;
        esac
    fi
    case $exe in
    /usr/local/lib/etcd-tools/v*-*/etcd*)
        running=${exe#/usr/local/lib/etcd-tools/}
        running=${running%%-*}
        ;;
    *)
        version "$process/exe"
        running=
        case $value in 'etcd Version: '*) running=${value#etcd Version: } ;; esac
        ;;
    esac
    say "process$tab${process#/proc/}$tab$exe$tab$unit$tab$(stat -c %U "$process")$tab$running"
    environment=$(tr '\0' '\n' < "$process/environ")
    each variable "$environment" ETCD_
    case $newline$environment in
    *"${newline}ETCD_LISTEN_CLIENT_URLS="*) ;;
    *)
        say "listens$tab$(tr '\0' ' ' < "$process/cmdline" | given ETCD_LISTEN_CLIENT_URLS listen-client-urls)"
        ;;
    esac
    if [ "$unit" = etcd.service ]; then
        last "$newline$environment" "${newline}ETCD_TRUSTED_CA_FILE="
        used_ca=$value
        last "$newline$environment" "${newline}ETCD_LISTEN_CLIENT_URLS="
        told=$value
        last "$newline$environment" "${newline}ETCD_LISTEN_PEER_URLS="
        told=$told,$value,
    fi
    last "$newline$environment" "${newline}ETCD_DATA_DIR="
    process_data=$value
    last "$newline$environment" "${newline}ETCD_WAL_DIR="
    process_wal=$value
    folder "$process_data" "$process_wal"
    if [ "$unit" = etcd.service ] && [ "$process_data" ]; then
        # It writes to the last one.
        segment=
        for segment in "${process_wal:-$process_data/member/wal}"/*.wal; do :; done
        if ! has_open "${process#/proc/}" "$process_data/member/snap/db" "$segment"; then
            say "closed$tab$process_data"
            case $(readlink "$process/fd"/* 2>/dev/null) in
            *"$process_data/member/snap/db (deleted)"*) say "deleted$tab$process_data" ;;
            esac
        fi
    fi
done

# Where anything listens, and from which port on those who are not root may; of no interest
# where etcd listens at its ports already.
case $told in *":${ports%%"$tab"*},"*) ;; *) told= ;; esac
case $told in *":${ports#*"$tab"},"*) ;; *)
    for socket in $(sed -n 's/^ *[0-9]*: \([0-9A-F]*:[0-9A-F]*\) [0-9A-F:]* 0A .*/\1/p' /proc/net/tcp /proc/net/tcp6 2>/dev/null); do
        say "listening$tab$socket"
    done
    { read -r from < /proc/sys/net/ipv4/ip_unprivileged_port_start && say "unprivileged$tab$from"; } 2>/dev/null
    ;;
esac

settings=
if [ -f "$config" ]; then
    settings=$({ head -c 65536 "$config"; echo; } | sed "s/^/fit${tab}config$tab/")
    printf '%s\n' "$settings"
fi
configured() { # NAME: sets $value
    last "$settings" "config$tab$1="
    case $value in *[\"\']*) value=$(printf '%s' "$value" | tr -d "\"'") ;; esac
}
configured ETCD_WAL_DIR
config_wal=$value
configured ETCD_DATA_DIR
config_data=$value
folder "$config_data" "$config_wal"
# Where the unit, a drop-in, or an environment file of its own, has the data.
elsewhere() { # VARIABLE FLAG
    printf '%s\n' "$definition$files" | grep -v "^fit${tab}line${tab}[[:space:]]*[#;]" |
        given "$1" "$2"
}
case $definition$files in
*ETCD_DATA_DIR=* | *ETCD_WAL_DIR=* | *-data-dir* | *-wal-dir*)
    own_data=$(elsewhere ETCD_DATA_DIR data-dir)
    own_wal=$(elsewhere ETCD_WAL_DIR wal-dir)
    if [ "$own_data$own_wal" ]; then folder "${own_data:-$config_data}" "$own_wal"; fi
    ;;
esac
folder "$data" "$wal"
# What lies in the document's data directory, or in that of the log, where that is not etcd's yet.
guest() { # FOLDER KIND OWN
    [ -d "$1" ] && holder=$(stat -L -c %U "$1/") && [ "$holder" != "$user" ] || return 1
    case $holder in
    root | UNKNOWN) ;;
    *) [ "$(ls -A -- "$1/")" ] || say "guest${tab}owner$tab$1 belongs to $holder" ;;
    esac
    for entry in "$1"/* "$1"/.[!.]*; do
        [ -e "$entry" ] || continue
        case ${entry##*/} in
        "$3" | lost+found | etcd-* | before-restore-* | .etcd-tools) ;;
        *)
            say "guest$tab$2$tab${entry%%"$newline"*}"
            break
            ;;
        esac
    done
}
# A file where a folder of the document's is to be, or one on the way to it.
for place in "$data" "${wal%/*}" "${config%/*}" "${ca%/*}"; do
    while [ "$place" ] && [ ! -e "$place" ]; do place=${place%/*}; done
    [ -d "$place/" ] || say "blocked$tab$place"
done
[ "$wal" = "$data/member/wal" ] || guest "${wal%/*}" walDir wal
if guest "$data" dataDir member; then
    # Until the user is made, data there is somebody else's.
    if [ -e "$data/member" ] && ! id -u "$user" >/dev/null 2>&1; then say "keeper$tab$(stat -c %U "$data/member")"; fi
fi

# The CA that etcd trusts, where that is another file.
if [ ! "$used_ca" ]; then
    configured ETCD_TRUSTED_CA_FILE
    used_ca=$value
fi
if [ ! "$used_ca" ]; then
    case $definition$files in
    *ETCD_TRUSTED_CA_FILE=* | *-trusted-ca-file*) used_ca=$(elsewhere ETCD_TRUSTED_CA_FILE trusted-ca-file) ;;
    esac
fi
if [ "$used_ca" != "$ca" ] && [ -f "$used_ca" ]; then
    say "used-ca$tab$used_ca"
    each used "$(head -c 262144 "$used_ca")" ''
fi
if [ -f "$ca" ]; then
    each ca "$(head -c 262144 "$ca")" ''
else
    for name in server.key server.crt peer.key peer.crt; do
        if [ -e "${ca%/*}/$name" ]; then say "credential$tab${ca%/*}/$name"; fi
    done
fi
for binary in $binaries; do
    if [ -e "$binary" ]; then
        version "$binary"
        say "binary$tab$binary$tab$value"
    fi
done
true
) || exit 1
