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
    printf '%s\n' "$4" | sed -n "s/^Failed to \(re\)\{0,1\}start .*: \|^A dependency job .*/said$tab&/p"
    # -u misses what systemd's own child says where it is gone before it is looked up.
    # After a cursor, -n means the first lines.
    journalctl _SYSTEMD_UNIT="$1" + UNIT="$1" _UID=0 "$from" --no-pager -o cat 2>/dev/null | tail -n 100 | sed "s/^/journal$tab/"
    journalctl _SYSTEMD_UNIT="$1" "$from" --no-pager -q -o cat 2>/dev/null | tail -n 1 | sed "s/^/last$tab/"
}
# What systemd takes for started as soon as it is forked, a line for each: the unit, when
# it was started here, its process, and how often systemd has restarted it.
forked=
while IFS=$tab read -r kind a b c; do
    case $kind in
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
        # systemd keeps one that failed, with or without its file.
        systemctl reset-failed "$a" 2>/dev/null
        rm -f -- "$units/$a" "$units/.$a.etcd-tools" && sync "$units" || die "$units/$a: removing it failed"
        ;;
    clean) # UNIT
        rm -f -- "$units/.$a.etcd-tools"
        ;;
    reload)
        said=$(systemctl daemon-reload 2>&1) || die "systemctl daemon-reload: $(why "$said")"
        ;;
    enable | disable | reenable) # UNIT
        # A reload runs all of systemd's generators: one, after this, is enough.
        said=$(systemctl --quiet --no-reload "$kind" "$a" 2>&1) || die "systemctl $kind $a: $(why "$said")"
        ;;
    start | restart | stop) # UNIT SECONDS
        # A unit that failed too often refuses to start until this.
        [ "$kind" = stop ] || systemctl reset-failed "$a" 2>/dev/null
        show=$(systemctl show "$a" -p FragmentPath,DropInPaths,EnvironmentFiles,MainPID)
        origin
        get MainPID
        old=$value
        # Each host waits for its own member, and all hosts wait at once.
        since=$(date +%s.%6N)
        said=$(timeout "$b" systemctl "$kind" "$a" 2>&1 8>&-)
        code=$?
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
        if [ "$kind" != stop ] && [ "$who" ]; then
            mkdir -p $started && printf '%s\t%s\n' "$who" "$origin" > "$started/$a"
        fi
        get ActiveState
        case $kind.$code.$type.$value in
        stop.*) ;;
        *.0.oneshot.* | *.0.*.active) ;;
        *.0.*) code=gone ;;
        esac
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
# They are given the time to fail, all at once.
[ -z "$forked" ] || sleep 2
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
[ "${complete:-}" ] || die "the plan was truncated in transit"
