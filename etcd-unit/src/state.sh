# Says what systemd and the kernel know of the units named on stdin, and what
# is on the disk for them.
tab=$(printf '\t')
echo "clock$tab$(date +%s.%N)$tab$(cut -d ' ' -f 1 /proc/uptime)"
while IFS= read -r unit; do
    echo "unit$tab$unit"
    path=/etc/systemd/system/$unit
    if [ -e "/etc/systemd/system/.$unit.etcd-tools" ]; then echo left; fi
    if [ -f "$path" ]; then
        sum=$(sha256sum < "$path") || die "$path: reading it failed"
        echo "file$tab${sum%% *}$tab$(stat -c %a "$path")"
        sed "s/^/text$tab/" "$path"
    fi
    show=$(systemctl show "$unit" -p ActiveState,SubState,UnitFileState,MainPID,NeedDaemonReload,ExecMainStartTimestampMonotonic,FragmentPath,ExecStart,EnvironmentFiles) ||
        die "$unit: systemctl does not answer"
    printf '%s\n' "$show" | sed "s/=/$tab/; s/^/show$tab/"
    get() { printf '%s\n' "$show" | sed -n "s/^$1=//p"; }
    pid=$(get MainPID)
    [ "${pid:-0}" = 0 ] && continue
    # What the running process was started with, and what is there now.
    binary=$(get ExecStart | sed -n 's/^{ path=\([^ ]*\) ;.*/\1/p')
    running=$(readlink "/proc/$pid/exe")
    there=$(readlink -f "$binary")
    running=${running% (deleted)}
    # A wrapper script as ExecStart says nothing about the binary that it runs.
    if [ "${running##*/}" = "${there##*/}" ] && ! [ "/proc/$pid/exe" -ef "$binary" ]; then echo other-binary; fi
    tr '\0' '\n' < "/proc/$pid/environ" | sed -n "s/^ETCD_/running${tab}ETCD_/p"
    fragment=$(get FragmentPath)
    [ -n "$fragment" ] && echo "changed${tab}unit$tab$(stat -c %.9Y "$fragment")"
    get EnvironmentFiles | sed 's/ (ignore_errors=.*//' | while IFS= read -r file; do
        [ -f "$file" ] || continue
        echo environment
        sed "s/^/configured$tab/" "$file"
        # etcd reads its CA file at start only.
        sed -n 's/^ETCD_\(PEER_\)\{0,1\}TRUSTED_CA_FILE=//p' "$file" | tr -d "\"'" | sort -u | while IFS= read -r ca; do
            [ -f "$ca" ] && echo "changed${tab}CA certificate$tab$(stat -c %.9Y "$ca")"
        done
    done
done
