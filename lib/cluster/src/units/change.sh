# Does what the lines on stdin say, in their order. The bytes of a unit file
# follow its line.
look() { show=$(systemctl show "$1" -p Type,ActiveState,SubState,MainPID,NRestarts,ExecMainStatus); }
why() { printf '%s\n' "$1" | sed -n '$p'; }
ended() { # UNIT CODE SINCE SAID [OLD-PROCESS]
    line="ended$tab$1$tab$2"
    for property in ActiveState SubState NRestarts ExecMainStatus; do
        get $property
        line=$line$tab$value
    done
    printf '%s\n' "$line"
    [ "$2" != 0 ] || return 0
    # What a process says last may still be on its way.
    journalctl --sync 2>/dev/null
    # What is said of the old one, and by it, until systemd calls it stopped is no reason.
    from=--since=@$3
    if [ "${5:-0}" != 0 ]; then
        cursor=$(journalctl MESSAGE_ID=9d1aaa27d60140bd96365438aad20286 UNIT="$1" "$from" --no-pager -q -o export 2>/dev/null | sed -n '/^__CURSOR=/{s///p;q}')
        if [ "$cursor" ]; then from=--after-cursor=$cursor; fi
    fi
    printf '%s\n' "$4" | sed -n "s/^Failed to \(start\|restart\|stop\) .*: \|^A dependency job .*\|^Cannot .*/said$tab&/p"
    case $4 in *'A dependency job '*)
        for needed in $(systemctl show "$1" -p Requires,Requisite,BindsTo | sed 's/^[A-Za-z]*=//'); do
            case $(systemctl show "$needed" -p ActiveState) in
            ActiveState=failed) echo "said$tab$needed, which it requires, has failed: see systemctl status $needed on the node" ;;
            esac
        done
        ;;
    esac
    systemctl show "$1" -p ExecCondition,ExecStartPre,ExecStartPost |
        sed -n "s/^\(Exec[A-Za-z]*\)={ path=[^ ]* ; argv\[\]=\(.*\) ; ignore_errors=no ; .* ; code=\([a-z]*\) ; status=\([1-9][0-9]*\).*/control$tab\1=\2: \3, status \4/p"
    # -u misses what systemd's own child says where it is gone before it is looked up.
    # After a cursor, -n means the first lines.
    journalctl _SYSTEMD_UNIT="$1" + UNIT="$1" _UID=0 "$from" --no-pager -o cat 2>/dev/null | tail -n 100 | sed "s/^/journal$tab/"
    last=$(journalctl _SYSTEMD_UNIT="$1" "$from" --no-pager -q -o cat 2>/dev/null | tail -n 1)
    [ -z "$last" ] || printf 'last\t%s\n' "$last"
    # The check before etcd starts sees what etcd's user may see.
    wal=${last%%: no write-ahead log, but *}
    set -- "$wal"/*.wal
    if [ "$wal" != "$last" ] && [ -e "$1" ]; then
        printf 'said\t%s\n' "$wal: etcd may not look into it: compare the modes and owners in namei -l $wal on the node"
    fi
}
# Sets $conflicts to the units that are in the way of $1, and of what systemd would start with
# it or after it: on each line the one that says so, and the other.
conflicts_of() {
    conflicts='' seen=' ' next=$1
    while [ "$next" ]; do
        # shellcheck disable=SC2086
        shown=$(systemctl show -p Id,ActiveState,Requires,BindsTo,Wants,Upholds,OnFailure,OnSuccess,Triggers,Conflicts,ConflictedBy -- $next)
        for name in $next; do seen="$seen$name "; done
        next=
        # What runs is not started again, nor do its conflicts count.
        while IFS= read -r line; do
            case $line in
            Id=*) id=${line#*=} needs='' others='' state='' ;;
            ActiveState=*) state=${line#*=} ;;
            Conflicts=* | ConflictedBy=*) others="$others ${line#*=}" ;;
            *=*) needs="$needs ${line#*=}" ;;
            '') ;;
            esac
            case $line.$state in
            .active | .activating) [ "$id" = "$1" ] || continue ;;
            .?*) ;;
            *) continue ;;
            esac
            state=
            for name in $needs; do
                case $name in *.slice | *.mount | sysinit.target | basic.target) ;; *) add "$name" ;; esac
            done
            for name in $others; do
                # Every unit is in the way of these.
                case $name in shutdown.target | umount.target) ;; *) conflicts="$conflicts$id $name$newline" ;; esac
            done
        done <<END
$shown

END
    done
}
# Says which of the conditions and assertions in $2, the text of the unit $1, is not met, where $1
# runs an etcd: systemd would not start it again.
unmet() {
    case $2 in *Condition* | *Assert*) ;; *) return 0 ;; esac
    is_etcd "$1" || return 0
    unit=$1 conditions='' assertions=''
    # Specifiers and systemd's own environment are for systemd alone to tell.
    lines=$(printf '%s\n' "$2" | sed -n '/%/d; /^[[:space:]]*ConditionEnvironment/d; s/^[[:space:]]*\(\(Condition\|Assert\)[A-Za-z]*\)[[:space:]]*=[[:space:]]*/\1=/p')
    set -f
    IFS=$newline
    for line in $lines; do
        # An empty one takes back all that are before it.
        case $line in
        Condition*=) conditions='' ;;
        Assert*=) assertions='' ;;
        Condition*) conditions=$conditions$line$newline ;;
        *) assertions=$assertions$line$newline ;;
        esac
    done
    # shellcheck disable=SC2086
    set -- $conditions$assertions
    IFS=$blanks
    set +f
    [ $# != 0 ] || return 0
    said=$(systemd-analyze condition "$@" 2>&1) && return 0
    said=$(printf '%s\n' "$said" | sed -n 's/^[^ ]*: \(.*=.*\) failed\.$/\1/p' | sed -n 1p)
    [ "$said" ] || return 0
    echo "unmet$tab$unit$tab$said"
    return 1
}
# The text of all files of the unit $1.
definition() {
    show=$(systemctl show "$1" -p FragmentPath,DropInPaths)
    parts "$1"
    # shellcheck disable=SC2086
    cat -- /dev/null $files 2>/dev/null
}
# Says what to $1 (start, restart) the unit $2 would take down that is to stay up; with $3 the
# etcd that systemd stops along may go. Sets $taken to what it would take down besides.
foresee() {
    taken=
    conflicts_of "$2"
    pairs=$conflicts
    while read -r by other; do
        [ "$other" ] || continue
        stopped_with "$other"
        for name in $down; do
            case $keep in
            *" $name "*) ;;
            *) is_etcd "$name" || continue ;;
            esac
            [ "$name" = "$2" ] || { echo "conflict$tab$1$tab$2$tab$by$tab$other$tab$name"; return 1; }
        done
    done <<END
$pairs
END
    [ "$1" = restart ] || return 0
    stopped_with "$2"
    for name in $down; do
        [ "$name" != "$2" ] || continue
        taken="$taken$name "
        if [ ! "$3" ] && is_etcd "$name"; then echo "along$tab$2$tab$name"; return 1; fi
    done
}
# Starts the etcd of the unit $1, which went down while something else was done.
up_again() {
    timeout 60 systemctl start "$1" >/dev/null 2>&1
    show=$(systemctl show "$1" -p ActiveState)
    get ActiveState
    echo "down$tab$1$tab$value"
}
# Says which of the units that follow the unit $1 does not run, where $1 runs an etcd: systemd
# stops it as soon as it reads that it is bound to such a one.
bound() {
    unit=$1
    shift
    for name; do
        systemctl is-active --quiet -- "$name" && continue
        { systemctl is-active --quiet -- "$unit" && is_etcd "$unit"; } || return 0
        echo "unbound$tab$unit$tab$name"
        return 1
    done
}
# Sets $files to those that are on the disk for the unit $1 by any of its names, and that an
# administrator may have put there.
on_disk() {
    names=$(systemctl show "$1" -p Names)
    names=${names#Names=}
    for link in "$units"/*.service; do
        if [ -L "$link" ] && [ "$link" -ef "$units/$1" ]; then names="$names ${link##*/}"; fi
    done
    files=''
    [ ! -f "$units/$1" ] || files=$units/$1
    for name in "${1##*.}" $names; do
        for root in "$units" /run/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system; do
            for file in "$root/$name.d"/*.conf; do
                if [ -f "$file" ]; then files="$files $file"; fi
            done
        done
    done
}
# Says what of that would take down the unit $1, where that runs an etcd, as soon as systemd reads
# it: a unit that it would be bound to and that does not run, or an end that systemd sets it.
bound_on_disk() {
    on_disk "$1"
    # shellcheck disable=SC2086
    lines=$(sed -n 's/%.*//; s/^\xef\xbb\xbf//; s/^[[:space:]]*\(BindsTo\|RuntimeMaxSec\|WatchdogSec\)[[:space:]]*=[[:space:]]*/\1=/p' -- /dev/null $files 2>/dev/null)
    [ "$lines" ] || return 0
    others='' deadly=''
    IFS=$newline
    for line in $lines; do
        case $line in
        BindsTo=*) others="$others ${line#*=}" ;;
        RuntimeMaxSec= | RuntimeMaxSec=infinity) case $deadly in RuntimeMaxSec*) deadly='' ;; esac ;;
        WatchdogSec= | WatchdogSec=0) case $deadly in WatchdogSec*) deadly='' ;; esac ;;
        *) deadly=$line ;;
        esac
    done
    IFS=$blanks
    if [ "$deadly" ] && is_etcd "$1"; then
        # shellcheck disable=SC2086
        where=$(grep -l -F -- "${deadly#*=}" $files 2>/dev/null | tail -n 1)
        echo "deadly$tab$1$tab$deadly$tab$where"
        return 1
    fi
    # shellcheck disable=SC2086
    bound "$1" $others
}
# Says which folder of an etcd systemd would give to the unit $1, by whatever path.
takes_folder() {
    [ "$standing" ] || return 0
    is_etcd "$1" && return 0
    managed=$(systemctl show "$1" -p StateDirectory,CacheDirectory,LogsDirectory,ConfigurationDirectory,RuntimeDirectory)
    given=''
    for line in $managed; do
        case $line in
        StateDirectory=*) root=/var/lib ;;
        CacheDirectory=*) root=/var/cache ;;
        LogsDirectory=*) root=/var/log ;;
        ConfigurationDirectory=*) root=/etc ;;
        RuntimeDirectory=*) root=/run ;;
        esac
        line=${line#*=}
        [ ! "$line" ] || given="$given $root/${line%%:*}"
    done
    [ "$given" ] || return 0
    set +f
    own=$(printf '%s' "$standing" | while read -r _ pid _; do readlink "/proc/$pid"/fd/* 2>/dev/null; done |
        sed -n 's/\/snap\/db$//p; s/\/[^/]*\.wal$//p' | sort -u)
    set -f
    for folder in $given; do
        [ -d "$folder" ] || continue
        for place in $own; do
            for inside in "$place" "$place/snap" "$place/wal"; do
                if [ "$folder" -ef "$inside" ]; then echo "takes$tab$1$tab$folder$tab$place"; return 1; fi
            done
            while [ "$place" ]; do
                if [ "$folder" -ef "$place" ]; then echo "takes$tab$1$tab$folder$tab$place"; return 1; fi
                place=${place%/*}
            done
        done
    done
}
find_etcds
# The units that are to run, those that have a job of their own, and whether an etcd may go down
# with one of these.
keep=' ' asked=' ' along='' begun='' enabled=' ' judged=' ' refused=' '
# With --check all that is done is to foresee.
check=
# What systemd takes for started as soon as it is forked, a line for each: the unit, when
# it was started here, its process, and how often systemd has restarted it. And whether anything
# but an etcd was started, restarted or stopped.
forked='' beside=''
while IFS=$tab read -r kind a b c; do
    case $kind in
    check) check=1 ;;
    keep) keep="$keep$a " ;; # UNIT
    bound) # UNIT UNITS
        # shellcheck disable=SC2086
        bound "$a" $b || { complete=1; break; }
        ;;
    conditions) # UNIT SIZE
        unmet "$a" "$(head -c "$b")" || { complete=1; break; }
        ;;
    write) # UNIT SIZE SHA256
        staged=$units/.$a.etcd-tools
        rm -f -- "$staged"
        said=$( (set -C; head -c "$b" > "$staged") 2>&1) || { rm -f -- "$staged"; die "$units/$a: writing: $(why "$said")"; }
        sum=$(sha256sum < "$staged")
        if [ "${sum%% *}" != "$c" ]; then
            rm -f -- "$staged"
            die "$units/$a: what arrived does not have the right SHA-256"
        fi
        chmod 644 "$staged" && sync "$staged" && mv -fT -- "$staged" "$units/$a" && sync "$units" ||
            die "$units/$a: putting it in place failed"
        ;;
    remove) # UNIT
        for unit in etcd.service $keep; do bound_on_disk "$unit" || { complete=1; break 2; }; done
        # systemd keeps one that failed, with or without its file.
        systemctl reset-failed "$a" 2>/dev/null
        rm -f -- "$units/$a" "$units/.$a.etcd-tools" && sync "$units" || die "$units/$a: removing it failed"
        ;;
    clean) # UNIT
        rm -f -- "$units/.$a.etcd-tools"
        ;;
    reload)
        for unit in etcd.service $keep; do bound_on_disk "$unit" || { complete=1; break 2; }; done
        said=$(systemctl daemon-reload 2>&1) || die "systemctl daemon-reload: $(why "$said")"
        # What starts at boot may be in the way of what is to run as well.
        for boots in $enabled; do
            case $judged in *" $boots "*) continue ;; esac
            judged="$judged$boots "
            set -f
            foresee start "$boots" || {
                refused="$refused$boots "
                systemctl --quiet disable "$boots" 2>/dev/null
            }
            set +f
        done
        ;;
    enable | disable | reenable) # UNIT
        # A reload runs all of systemd's generators: one, after this, is enough.
        said=$(systemctl --quiet --no-reload "$kind" "$a" 2>&1) || {
            # What it has changed until then, systemd would take for changes of other units.
            systemctl daemon-reload 2>/dev/null
            die "systemctl $kind $a: $(why "$said")"
        }
        [ "$kind" = disable ] || enabled="$enabled$a "
        ;;
    start | restart | stop) # UNIT SECONDS [WITH-ETCD]
        taken='' asked="$asked$a " along=$along$c
        with=
        if [ "$kind" = stop ]; then
            stopped_with "$a"
            for other in $down; do
                if [ "$other" != "$a" ] && is_etcd "$other"; then with="$with$other "; fi
            done
        else
            case $refused in *" $a "*) continue ;; esac
            set -f
            { takes_folder "$a" && foresee "$kind" "$a" "$c"; } || { set +f; continue; }
            set +f
            if [ "$kind" = restart ]; then unmet "$a" "$(definition "$a")" || continue; fi
        fi
        [ ! "$check" ] || continue
        # A unit that failed too often refuses to start until this.
        [ "$kind" = stop ] || systemctl reset-failed "$a" 2>/dev/null
        show=$(systemctl show "$a" -p FragmentPath,DropInPaths,EnvironmentFiles,MainPID)
        origin "$a"
        get MainPID
        old=$value
        # Each host waits for its own member, and all hosts wait at once.
        since=$(date +%s.%6N)
        said=$(timeout "$b" systemctl "$kind" "$a" 2>&1 8>&-)
        code=$?
        # systemd is done with a unit before what it stops along.
        for other in $with; do timeout "$b" systemctl stop "$other" 2>/dev/null 8>&-; done
        look "$a"
        get Type
        type=$value
        get MainPID
        pid=${value:-0} who=
        if [ $pid != 0 ]; then
            process $pid
            who=$value
        elif [ "$type.$code" = oneshot.0 ]; then
            who=done
        fi
        # The old one, which could not be restarted, has the record that it was started with.
        if [ "$kind" != stop ] && [ "$who" ] && { [ "$who" = done ] || [ "$pid" != "${old:-0}" ]; }; then
            mkdir -p $started && printf '%s\t%s\n' "$who" "$origin" > "$started/$a"
        fi
        case $newline$standing$newline in *"$newline$a "* | "$newline$newline") ;; *) beside=1 ;; esac
        case $kind.$code in
        start.0 | restart.0) if [ $pid != 0 ] && runs_etcd "$a" $pid; then begun="$begun$a$newline"; fi ;;
        esac
        get ActiveState
        case $kind.$code.$type.$value in
        # Another unit may hold it up.
        stop.0.*.active | stop.0.*.activating) code=again ;;
        stop.*) ;;
        *.0.oneshot.* | *.0.*.active) ;;
        *.0.*) code=gone ;;
        esac
        # Not all that systemd stops with it does it start again.
        if [ "$code" = 0 ]; then
            for other in $taken; do
                again=$(timeout "$b" systemctl start "$other" 2>&1 8>&-) && continue
                failed=$?
                look "$other"
                ended "$other" $failed "$since" "$again"
            done
            look "$a"
        fi
        get NRestarts
        case $kind.$code.$type in
        stop.*) ended "$a" $code "$since" "$said" ;;
        *.0.simple | *.0.exec | *.0.idle | *.0.forking)
            forked="$forked$a $since $pid $value$newline"
            ;;
        *) ended "$a" $code "$since" "$said" "$old" ;;
        esac
        if [ "$kind" = stop ] && [ $code != 0 ]; then
            # What still runs keeps its unit.
            complete=1
            break
        fi
        ;;
    end) complete=1 ;;
    esac
done
# They are given the time to fail, all at once, and others that to take down an etcd.
[ -z "$forked$beside" ] || sleep 2
printf '%s' "$forked" | while read -r a since pid restarts; do
    look "$a"
    state=
    for property in ActiveState SubState MainPID NRestarts; do
        get $property
        state="$state $value"
    done
    case $state in
    # The second has RemainAfterExit.
    " active "*" $pid $restarts" | " active exited 0 $restarts") code=0 ;;
    *) code=gone ;;
    esac
    ended "$a" $code "$since" ""
done
# No line says so, but an etcd that ran is gone, or going: for what a unit runs, or in a way that
# systemd does not tell. It comes up again, where it can.
if [ ! "$check$along" ]; then
    printf '%s' "$standing" | while read -r unit pid since; do
        case $asked in *" $unit "*) continue ;; esac
        show=$(systemctl show "$unit" -p ActiveState)
        get ActiveState
        state=$value
        process "$pid"
        case $state.$value in
        "active.$pid $since" | "activating.$pid $since" | "reloading.$pid $since") continue ;;
        esac
        up_again "$unit"
    done
    # Nor does one stay that was started here.
    printf '%s' "$begun" | while read -r unit; do
        show=$(systemctl show "$unit" -p ActiveState)
        get ActiveState
        case $value in active | reloading) ;; *) up_again "$unit" ;; esac
    done
fi
[ "${complete:-}" ] || die "the plan was truncated in transit"
