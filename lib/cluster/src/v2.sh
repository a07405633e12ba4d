# Says whether the member has data of the v2 API, as far as etcd 3.5's etcdutl is there,
# which alone knows. stdin: the folder of the data, that of the log, the folder of the
# binaries, and that of the releases; a line each.
read -r data && read -r wal && read -r bin && read -r releases || die "the query was truncated in transit"
cat > /dev/null
running=
for process in /proc/[0-9]*; do
    { read -r name < "$process/comm"; } 2>/dev/null && [ "$name" = etcd ] || continue
    exe=$(readlink "$process/exe") && running=${exe%/*}
done
# The binaries may have been replaced already: that of what runs, or has run, is beside them.
set -- "$bin/etcdutl"
if [ "$running" ]; then set -- "$@" "$running/etcdutl"; else set -- "$@" "$releases"/v3.5.*/etcdutl; fi
# What runs 3.6 or newer has started on that data, and could not have done so with v2 data.
case $running in "$releases"/v3.[6-9].*) set -- ;; esac
for tool; do
    [ -e "$data/member/snap/db" ] && [ -x "$tool" ] || continue
    # It looks for the log in a folder of that name beside the data otherwise.
    case $wal in
    "$data/member/wal") said=$(timeout 60 "$tool" check v2store --data-dir "$data" 2>&1) ;;
    *) said=$(timeout 60 "$tool" check v2store --data-dir "$data" --wal-dir "$wal" 2>&1) ;;
    esac
    found=$(printf '%s\n' "$said" | sed -n 's/^.*\(detected custom .*\)$/v2\t\1/p' | head -n 1)
    if [ "$found" ]; then
        printf '%s\n' "$found"
        break
    fi
done
