# Says what systemd and the kernel know of the units named on stdin, one a line
# up to an empty one, and what is on the disk for them.
read -r uptime _ < /proc/uptime
echo "clock$tab$(date +%s.%N)$tab$uptime$tab$(getconf CLK_TCK)"
# Every line of a file, with or without a newline at its end.
lines() { { cat -- "$2"; echo; } | sed "s/^/$1$tab/"; }
# The variables of etcd among the lines $2.
variables() {
    set -f
    IFS=$newline
    for line in $2; do
        case $line in ETCD_*) printf '%s\n' "$1$tab$line" ;; esac
    done
    IFS=$blanks
    set +f
}
find_etcds
[ ! "$etcds" ] || echo runs-etcd
basic=ActiveState,SubState,UnitFileState
full=$basic,Id,LoadState,Type,Result,MainPID,NRestarts,NeedDaemonReload,FragmentPath,DropInPaths,ExecStart,ExecMainStartTimestampMonotonic,RemainAfterExit,Environment,EnvironmentFiles,TriggeredBy,$stopping,BindsTo
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
    set -f
    IFS=$newline
    for line in $show; do printf '%s\n' "show$tab${line%%=*}$tab${line#*=}"; done
    IFS=$blanks
    set +f
    get UnitFileState
    if [ "$value" = enabled ]; then
        # Of links that are gone systemd knows only once it has read its units again.
        linked=
        for link in "$units"/*.wants/"$unit" "$units"/*.requires/"$unit"; do
            if [ -L "$link" ]; then linked=1; fi
        done
        [ "$linked" ] || echo "show${tab}UnitFileState$tab$(systemctl is-enabled "$unit" 2>/dev/null)"
    fi
    # One that has not been loaded yet is missing in TriggeredBy.
    get TriggeredBy
    for trigger in $value; do echo "trigger$tab$trigger"; done
    for trigger in "${unit%.*}.timer" "${unit%.*}.socket" "${unit%.*}.path"; do
        [ -f "$units/$trigger" ] || continue
        case " $(systemctl show "$trigger" -p Triggers | sed 's/^Triggers=//') " in
        *" $unit "*) echo "trigger$tab$trigger" ;;
        esac
    done
    get DropInPaths
    seen=" "
    for file in "$path.d"/*.conf $value; do
        case $seen in *" $file "*) continue ;; esac
        seen="$seen$file "
        [ -f "$file" ] || continue
        sum=$(sha256sum < "$file") || die "$file: reading it failed"
        echo "drop-in$tab${sum%% *}$tab$file"
    done
    # The units of etcd that systemd would stop or restart with this one.
    with=
    IFS=,
    for kind in $stopping; do
        get $kind
        with=$with$value
    done
    IFS=$blanks
    if [ "$with" ]; then
        stopped_with "$unit"
        for other in $down; do
            if [ "$other" != "$unit" ] && is_etcd "$other"; then echo "takes$tab$other"; fi
        done
    fi
    record=
    { IFS= read -r record < "$started/$unit"; } 2>/dev/null
    get MainPID
    pid=$value
    if [ "${pid:-0}" = 0 ]; then
        # systemd forgets a job that is done; these tools do not, until the next boot.
        if [ "${record%%$tab*}" = done ]; then
            echo "record$tab${record#*$tab}"
            origin "$unit"
            echo "disk$tab$origin"
        fi
        continue
    fi
    if runs_etcd "$unit" "$pid"; then echo etcd; fi
    # What the running process was started with, and what is there now.
    get ExecStart
    binary=${value#"{ path="} binary=${binary%%" "*}
    running=$(readlink "/proc/$pid/exe")
    running=${running% (deleted)}
    process "$pid"
    process=$value
    echo "process$tab${process#* }$tab$running"
    if ! [ "/proc/$pid/exe" -ef "$binary" ]; then
        there=$(readlink -f "$binary")
        # A wrapper script as ExecStart says nothing about the binary that it runs.
        if [ "${running##*/}" = "${there##*/}" ]; then
            # The same may have been put there again.
            cmp -s "/proc/$pid/exe" "$there" 2>/dev/null || echo other-binary
        elif [ "$(head -c 2 "$binary" 2>/dev/null | tr -d '\0')" = '#!' ]; then
            echo "script$tab$binary"
            echo "changed${tab}script$tab$(stat -L -c %.9Y "$binary")"
        fi
    fi
    variables running "$(tr '\0' '\n' < "/proc/$pid/environ")"
    variables manager "$(systemctl show-environment)"
    origin "$unit"
    printf '%s' "$environments" | while IFS= read -r file; do
        echo "environment$tab$file"
        lines configured "$file"
    done
    printf '%s' "$missing" | while IFS= read -r file; do echo "environment$tab$file"; done
    # What it was started with is on record where these tools have started it;
    # else the times of the files have to do.
    if [ "${record%%$tab*}" = "$process" ]; then
        echo "record$tab${record#*$tab}"
        echo "disk$tab$origin"
    else
        get FragmentPath
        files=$value
        get DropInPaths
        for file in $files $value; do
            [ ! -f "$file" ] || echo "changed${tab}unit$tab$(stat -L -c %.9Z "$file")"
        done
        printf '%s' "$cas${cas:+$newline}" | while IFS= read -r ca; do
            [ ! -f "$ca" ] || echo "changed${tab}CA certificate$tab$(stat -L -c %.9Y "$ca")"
        done
    fi
done
