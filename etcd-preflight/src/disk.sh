# Writes as etcd writes its log, and says how long each write took, in seconds. stdin: where
# the log will lie, the size of a write in bytes, how many are to warm up, and how many are
# to be measured; a line each.
read -r folder && read -r size && read -r warm && read -r count || die "the query was truncated in transit"
cat > /dev/null
while [ ! -d "$folder" ]; do
    folder=${folder%/*}
    folder=${folder:-/}
done
# What the disk cannot do is an answer, and keeps nothing else from being said.
failed() { printf 'failed\t%s\n' "$1"; exit 0; }
file=$(mktemp -- "$folder/.etcd-preflight.XXXXXX" 2>/dev/null) || failed "$folder: writing to it failed"
trap 'rm -f -- "$file"' EXIT
exec 7<> "$file" || die "$file: opening it failed"
# It has no name from here on: whatever ends this script, nothing stays.
rm -f -- "$file"
total=$((warm + count))
# etcd allocates its log before it writes to it.
dd if=/dev/zero of=/proc/self/fd/7 bs="$size" count="$total" conv=fsync 2>/dev/null ||
    failed "$folder: writing $((total * size)) bytes failed"
end=$(($(date +%s) + 20))
at=0
while [ "$at" -lt "$total" ] && [ "$(date +%s)" -lt "$end" ]; do
    # dd says how long the write alone took, without the start of its process.
    took=$(dd if=/dev/zero of=/proc/self/fd/7 bs="$size" count=1 seek="$at" oflag=dsync conv=notrunc 2>&1) ||
        failed "$folder: writing failed"
    at=$((at + 1))
    [ "$at" -le "$warm" ] || printf '%s\n' "$took" | sed -n 's/.* copied, \([0-9.e-]*\) s.*/\1/p'
done
