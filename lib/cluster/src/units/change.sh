# Does what the lines on stdin say, in their order. The bytes of a unit file
# follow its line.
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
        since=$(date +%s)
        said=$(timeout "$b" systemctl "$kind" "$a" 2>&1 8>&-)
        code=$?
        show=$(systemctl show "$a" -p ActiveState,SubState,MainPID)
        get() { printf '%s\n' "$show" | sed -n "s/^$1=//p"; }
        pid=$(get MainPID)
        if [ "$kind" != stop ] && [ "${pid:-0}" != 0 ]; then
            record=$(started_with "$a")
            mkdir -p "${record%/*}" && printf '%s\t%s\n' "$(process "$pid")" "$with" > "$record"
        fi
        echo "ended$tab$a$tab$code$tab$(get ActiveState)$tab$(get SubState)"
        if [ "$kind" = stop ] && [ $code != 0 ]; then
            # What still runs keeps its unit.
            complete=1
            break
        fi
        if [ $code != 0 ]; then
            journalctl -u "$a" -n 100 --since "@$since" --no-pager -o cat 2>/dev/null | sed "s/^/journal$tab/"
        fi
        ;;
    end) complete=1 ;;
    esac
done
[ "${complete:-}" ] || die "the plan was truncated in transit"
