# Does what the lines on stdin say, in their order. The bytes of a unit file
# follow its line.
look() { show=$(systemctl show "$a" -p Type,ActiveState,SubState,MainPID,NRestarts); }
get() { printf '%s\n' "$show" | sed -n "s/^$1=//p"; }
why() { printf '%s\n' "$1" | sed -n '$p'; }
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
        rm -f -- "$units/$a" "$units/.$a.etcd-tools" && sync "$units" || die "$units/$a: removing it failed"
        ;;
    clean) # UNIT
        rm -f -- "$units/.$a.etcd-tools"
        ;;
    reload)
        said=$(systemctl daemon-reload 2>&1) || die "systemctl daemon-reload: $(why "$said")"
        ;;
    enable | disable) # UNIT
        # A reload runs all of systemd's generators: one, after this, is enough.
        said=$(systemctl --quiet --no-reload "$kind" "$a" 2>&1) || die "systemctl $kind $a: $(why "$said")"
        ;;
    start | restart | stop) # UNIT SECONDS
        # A unit that failed too often refuses to start until this.
        [ "$kind" = stop ] || systemctl reset-failed "$a" 2>/dev/null
        show=$(systemctl show "$a" -p FragmentPath,DropInPaths,EnvironmentFiles)
        with="$(definition "$show")$tab$(authorities "$show")"
        # Each host waits for its own member, and all hosts wait at once.
        since=$(date +%s.%6N)
        said=$(timeout "$b" systemctl "$kind" "$a" 2>&1 8>&-)
        code=$?
        look
        if [ "$kind" != stop ] && [ $code = 0 ]; then
            # systemd takes some for started as soon as they are forked.
            pid=$(get MainPID) restarts=$(get NRestarts)
            case $(get Type) in
            simple | exec | idle | forking) tries=5 ;;
            *) tries=0 ;;
            esac
            while [ $tries -gt 0 ] && [ "$(get ActiveState)" = active ]; do
                tries=$((tries - 1))
                sleep 0.1
                look
            done
            if [ "$(get Type)" != oneshot ] && { [ "$(get ActiveState)" != active ] ||
                [ "$(get MainPID)" != "$pid" ] || [ "$(get NRestarts)" != "$restarts" ]; }; then
                code=gone
            fi
        fi
        pid=$(get MainPID) who=
        if [ "${pid:-0}" != 0 ]; then
            who=$(process "$pid")
        elif [ "$(get Type).$code" = oneshot.0 ]; then
            who=done
        fi
        if [ "$kind" != stop ] && [ "$who" ]; then
            record=$(started_with "$a")
            mkdir -p "${record%/*}" && printf '%s\t%s\n' "$who" "$with" > "$record"
        fi
        echo "ended$tab$a$tab$code$tab$(get ActiveState)$tab$(get SubState)"
        if [ "$kind" = stop ] && [ $code != 0 ]; then
            # What still runs keeps its unit.
            complete=1
            break
        fi
        if [ $code != 0 ]; then
            # What a process says last may still be on its way.
            journalctl --sync 2>/dev/null
            printf '%s\n' "$said" | sed -n "s/^Failed to start .*: \|^A dependency job .*/said$tab&/p"
            journalctl -u "$a" -n 100 --since "@$since" --no-pager -o cat 2>/dev/null | sed "s/^/journal$tab/"
        fi
        ;;
    end) complete=1 ;;
    esac
done
[ "${complete:-}" ] || die "the plan was truncated in transit"
