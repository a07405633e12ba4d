# Says what of the v2 store is in the write-ahead log, and up to where snapshots
# go. stdin: the folder of the log, the folder of the snapshots, a pattern for the
# paths of v2 requests, and how many bytes before them are wanted; a line each.
read -r wal && read -r snapshots && read -r paths && read -r count || die "the query was truncated in transit"
tab=$(printf '\t')
for file in "$snapshots"/*.snap; do
    [ -f "$file" ] && echo "snapshot$tab${file##*/}"
done
for segment in "$wal"/*.wal; do
    [ -f "$segment" ] || continue
    # The last of them are enough: the order of the log is that of the indexes.
    for path in $(grep -abo -- "$paths" "$segment" | cut -d : -f 1 | tail -n 8); do
        from=$((path > count ? path - count : 0))
        before=$(tail -c "+$((from + 1))" "$segment" | head -c "$((path - from))" | od -A n -v -t x1 | tr -d ' \n')
        echo "before$tab$before"
    done
done
cat > /dev/null
