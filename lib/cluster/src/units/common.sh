# Looks after systemd units. What state.sh and change.sh share.
# Every process costs the host a millisecond or two: hence these set variables, and do not
# print.
tab=$(printf '\t')
newline='
'
blanks=" $tab$newline"
units=/etc/systemd/system
# Here is what each unit was started with: its process, and $origin.
started=/run/etcd-tools.started
# Sets $value to the property $1 in $show, which is what `systemctl show` says.
get() {
    value=$newline$show
    case $value in *"$newline$1="*) ;; *) value=''; return ;; esac
    value=${value#*"$newline$1="}
    value=${value%%"$newline"*}
}
# Sets $environments to the environment files in $show that are there, $missing to those that
# are not, and $cas to the CA files that are named there: etcd reads them when it starts.
sources() {
    environments='' missing='' cas=''
    patterns=
    set -f
    IFS=$newline
    for line in $show; do
        file=${line#EnvironmentFiles=}
        if [ "$file" != "$line" ]; then patterns=$patterns${file%%" (ignore_errors="*}$newline; fi
    done
    # One may stand for many.
    set +f
    for file in $patterns; do
        if [ -f "$file" ]; then
            environments=$environments$file$newline
        else
            missing=$missing$file$newline
        fi
    done
    set -f
    if [ "$environments" ]; then
        # shellcheck disable=SC2086
        cas=$(sed -n "s/[\"']//g; s/^ETCD_\(PEER_\)\{0,1\}TRUSTED_CA_FILE=//p" -- $environments | sort -u)
    fi
    IFS=$blanks
    set +f
}
# Sets $files to the files of the unit $1, which is that in $show, with spaces between, as systemd
# has them; and those of its drop-ins that it has not read yet.
parts() {
    get DropInPaths
    for file in "$units/$1.d"/*.conf "$units/${1##*.}.d"/*.conf "/run/systemd/system/$1.d"/*.conf; do
        case " $value " in *" $file "*) ;; *) value="$value $file" ;; esac
    done
    files=$value
    get FragmentPath
    files="$value $files"
}
# Sets $origin to the hashes of all that the unit in $show is started with: its files,
# comments aside; the CA files; what is in the environment files besides that of etcd,
# which the process itself tells.
origin() { # UNIT
    sources
    parts "$1"
    set -f
    definition=$(
        for file in $files; do
            [ -e "$file" ] || continue
            echo "$file"
            sed '/^[[:space:]]*[#;]/d' -- "$file"
        done 2>/dev/null | sha256sum
    )
    IFS=$newline
    authorities=$(for file in $cas; do cat -- "$file"; done 2>/dev/null | sha256sum)
    environment=$(
        for file in $environments; do
            sed '/^[[:space:]]*[#;]/d; /^ETCD_/d; /^$/d' -- "$file"
        done 2>/dev/null | sha256sum
    )
    IFS=$blanks
    set +f
    origin=${definition%% *}$tab${authorities%% *}$tab${environment%% *}
}
# Sets $value to what tells the process $1 from any other: its number, and when it was
# started, in ticks since boot (the name before it may hold spaces and brackets).
process() {
    value=''
    { read -r value < "/proc/$1/stat"; } 2>/dev/null
    # Fields 1 and 2 are before it.
    set -- "$1" ${value##*) }
    value="$1 ${21:-}"
}
# Whether the etcd with the process $1 is no member, but a client of some: its first argument says
# so. `read` leaves out the zeros between the arguments.
is_proxy() {
    words=''
    { read -r words < "/proc/$1/cmdline"; } 2>/dev/null
    case $words in
    *etcdgateway* | *etcdgrpc-proxy*) ;;
    *) return 1 ;;
    esac
    case $(tr '\0' ' ' < "/proc/$1/cmdline") in
    *etcd' gateway '* | *etcd' grpc-proxy '*) ;;
    *) return 1 ;;
    esac
}
# Sets $etcds to where in systemd's tree an etcd runs: it may be the child of a script. One in a
# container with a network of its own is none of the node's. Sets $standing to the services among
# them, each with what tells its process from any other.
find_etcds() {
    etcds='' standing=''
    for process in /proc/[0-9]*; do
        { read -r name < "$process/comm"; } 2>/dev/null && [ "$name" = etcd ] || continue
        [ "$process/ns/net" -ef /proc/self/ns/net ] || continue
        ! is_proxy "${process#/proc/}" || continue
        service=
        while IFS=: read -r _ _ path; do
            etcds="$etcds$path/$newline"
            case $path in *.service) service=${path##*/} ;; esac
        done 2>/dev/null < "$process/cgroup"
        process "${process#/proc/}"
        if [ "$service" ]; then standing="$standing$service $value$newline"; fi
    done
}
# Whether the unit $1 with the process $2 runs an etcd.
runs_etcd() {
    case $etcds in */"$1"/*) return 0 ;; esac
    # Whatever it is called.
    case $(readlink "/proc/$2"/fd/* 2>/dev/null) in */member/snap/db*) return 0 ;; esac
    return 1
}
# The same, whatever its process.
is_etcd() {
    pid=$(systemctl show "$1" -p MainPID)
    runs_etcd "$1" "${pid#MainPID=}"
}
# The properties that name what systemd stops with a unit.
stopping=RequiredBy,RequisiteOf,BoundBy,ConsistsOf,PropagatesStopTo
# Sets $down to the running units that systemd stops when it stops $1, and itself among them.
stopped_with() {
    down='' seen=' ' next=$1
    while [ "$next" ]; do
        # shellcheck disable=SC2086
        shown=$(systemctl show -p Id,ActiveState,$stopping -- $next)
        for name in $next; do seen="$seen$name "; done
        next=
        while IFS= read -r line; do
            case $line in
            Id=*) id=${line#*=} ;;
            ActiveState=active | ActiveState=activating | ActiveState=reloading) down="$down$id " ;;
            ActiveState=*) ;;
            *) add ${line#*=} ;;
            esac
        done <<END
$shown
END
    done
}
# Adds to $next what has not been seen.
add() {
    for name; do
        case "$seen $next " in *" $name "*) ;; *) next="$next $name" ;; esac
    done
}
