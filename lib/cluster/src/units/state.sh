# Says what systemd and the kernel know of the units named on stdin, one a line
# up to an empty one, and what is on the disk for them.
echo "clock$tab$(date +%s.%N)$tab$(cut -d ' ' -f 1 /proc/uptime)$tab$(getconf CLK_TCK)"
# Every line of a file, with or without a newline at its end.
lines() { { cat -- "$2"; echo; } | sed "s/^/$1$tab/"; }
basic=ActiveState,SubState,UnitFileState
full=$basic,LoadState,Type,Result,MainPID,NRestarts,NeedDaemonReload,FragmentPath,DropInPaths,ExecStart,RemainAfterExit,Environment,EnvironmentFiles,TriggeredBy,RequiredBy,RequisiteOf,BoundBy,ConsistsOf
while IFS= read -r unit && [ "$unit" ]; do
    echo "unit$tab$unit"
    path=$units/$unit
    if [ -e "$units/.$unit.etcd-tools" ]; then echo left; fi
    if [ -f "$path" ]; then
        sum=$(sha256sum < "$path") || die "$path: reading it failed"
        echo "file$tab${sum%% *}$tab$(stat -L -c %a "$path")"
        lines text "$path"
    fi
    case $unit in
    *@.*)
        # A template is no unit: only its instances run.
        echo "show${tab}UnitFileState$tab$(systemctl is-enabled "$unit" 2>/dev/null)"
        continue
        ;;
    esac
    show=$(systemctl show "$unit" -p $full) || die "$unit: systemctl does not answer"
    printf '%s\n' "$show" | sed "s/=/$tab/; s/^/show$tab/"
    # One that has not been loaded yet is missing in TriggeredBy.
    for trigger in $(get TriggeredBy); do echo "trigger$tab$trigger"; done
    for trigger in "${unit%.*}.timer" "${unit%.*}.socket" "${unit%.*}.path"; do
        [ -f "$units/$trigger" ] || continue
        case " $(systemctl show "$trigger" -p Triggers | sed 's/^Triggers=//') " in
        *" $unit "*) echo "trigger$tab$trigger" ;;
        esac
    done
    for file in "$path.d"/*.conf; do
        [ -f "$file" ] || continue
        sum=$(sha256sum < "$file") || die "$file: reading it failed"
        echo "drop-in$tab${sum%% *}$tab$file"
    done
    # The running units that systemd would stop or restart with this one.
    next=$(get RequiredBy; get RequisiteOf; get BoundBy; get ConsistsOf)
    seen=" $unit "
    while [ "$next" ]; do
        new=
        for other in $next; do
            case $seen in *" $other "*) continue ;; esac
            seen="$seen$other "
            case $other in *.service) ;; *) continue ;; esac
            theirs=$(systemctl show "$other" -p ActiveState,ExecStart,RequiredBy,RequisiteOf,BoundBy,ConsistsOf)
            case $theirs in *ActiveState=active* | *ActiveState=activating*)
                binary=$(printf '%s\n' "$theirs" | sed -n 's/^ExecStart={ path=\([^ ]*\) ;.*/\1/p')
                echo "takes$tab$other$tab$binary"
                ;;
            esac
            new="$new $(printf '%s\n' "$theirs" | sed -n 's/^\(RequiredBy\|RequisiteOf\|BoundBy\|ConsistsOf\)=//p')"
        done
        next=$(echo $new)
    done
    record=
    { IFS= read -r record < "$(started_with "$unit")"; } 2>/dev/null
    pid=$(get MainPID)
    if [ "${pid:-0}" = 0 ]; then
        # systemd forgets a job that is done; these tools do not, until the next boot.
        if [ "${record%%$tab*}" = done ]; then
            echo "record$tab${record#*$tab}"
            echo "disk$tab$(origin "$show")"
        fi
        continue
    fi
    # What the running process was started with, and what is there now.
    binary=$(get ExecStart | sed -n 's/^{ path=\([^ ]*\) ;.*/\1/p')
    running=$(readlink "/proc/$pid/exe")
    there=$(readlink -f "$binary")
    running=${running% (deleted)}
    echo "process$tab$(process "$pid" | cut -d ' ' -f 2)$tab$running"
    # A wrapper script as ExecStart says nothing about the binary that it runs.
    if [ "${running##*/}" = "${there##*/}" ] && ! [ "/proc/$pid/exe" -ef "$binary" ]; then echo other-binary; fi
    tr '\0' '\n' < "/proc/$pid/environ" | sed -n "s/^ETCD_/running${tab}ETCD_/p"
    systemctl show-environment | sed -n "s/^ETCD_/manager${tab}ETCD_/p"
    environment_files "$show" | while IFS= read -r file; do
        if [ -f "$file" ]; then lines configured "$file"; fi
    done
    # What it was started with is on record where these tools have started it;
    # else the times of the files have to do.
    if [ "${record%%$tab*}" = "$(process "$pid")" ]; then
        echo "record$tab${record#*$tab}"
        echo "disk$tab$(origin "$show")"
    else
        for file in $(get FragmentPath) $(get DropInPaths); do
            [ -f "$file" ] && echo "changed${tab}unit$tab$(stat -L -c %.9Z "$file")"
        done
        ca_files "$show" | while IFS= read -r ca; do
            [ -f "$ca" ] && echo "changed${tab}CA certificate$tab$(stat -L -c %.9Y "$ca")"
        done
    fi
done
