# Says whether the member has data of the v2 API, as far as etcd 3.5's etcdutl is there,
# which alone knows. stdin: the folder of the data, that of the log, and the path of etcdutl;
# a line each.
read -r data && read -r wal && read -r tool || die "the query was truncated in transit"
cat > /dev/null
if [ -e "$data/member/snap/db" ] && [ -x "$tool" ]; then
    # It looks for the log in a folder of that name beside the data otherwise.
    case $wal in
    "$data/member/wal") said=$(timeout 60 "$tool" check v2store --data-dir "$data" 2>&1) ;;
    *) said=$(timeout 60 "$tool" check v2store --data-dir "$data" --wal-dir "$wal" 2>&1) ;;
    esac
    printf '%s\n' "$said" | sed -n 's/^.*\(detected custom .*\)$/v2\t\1/p' | head -n 1
fi
