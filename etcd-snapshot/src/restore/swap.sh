# Puts what is staged in the place of the data, which is kept aside: renames within one
# file system each. Whatever lies there after any of them says what is left to do:
#   stamp of 3 lines  staged        stamp of 4 lines  begun; the last names where the
#   no stamp          done                            old data goes
# A log without its database, or beside another one, never lies where etcd looks.
data=$1 wal=$2 identity=$3 attempt=$4 discard=$5
stage=$data/etcd-restore wal_stage=${wal:+$wal/etcd-restore} record=$data/etcd-restored
tab=$(printf '\t')
die() { printf '%s\n' "$*" >&2; exit 1; }
flush() { sync -f "$data" ${wal:+"$wal"} 2>/dev/null || sync || die "$data: syncing failed"; }
move() { # FROM TO
    said=$(mv -T -- "$1" "$2" 2>&1) || die "$1: renaming it to $2: ${said##*: }: run again"
}
keep() { # WHAT FOLDER
    [ -d "$2" ] || mkdir -- "$2" || die "$2: making the folder failed: run again"
    move "$1" "$2/${1##*/}"
}
# A link that leads nowhere is there, too.
is_there() { [ -e "$1" ] || [ -L "$1" ]; }
taken() { is_there "$data/$1" || { [ "$wal" ] && is_there "$wal/$1"; }; }
is_wanted() { [ "$(sed -n 1p "$1" 2>/dev/null)" = "$identity" ] && [ "$(sed -n 3p "$1")" = "$attempt" ]; }
trap '' PIPE
if [ -f "$stage/stamp" ]; then
    is_wanted "$stage/stamp" || die "another snapshot was staged meanwhile: run again from --stage on"
    aside=$(sed -n 4p "$stage/stamp")
    if [ ! "$aside" ]; then
        number=1
        while taken "before-restore-$number"; do number=$((number + 1)); done
        aside=before-restore-$number
        said=$({ { cat "$stage/stamp" && echo "$aside"; } > "$stage/stamp.new"; } 2>&1) ||
            die "$stage/stamp: writing: ${said##*: }: run again"
        flush
        move "$stage/stamp.new" "$stage/stamp"
        flush
    fi
    if [ "$wal" ] && [ -e "$wal_stage/wal" ] && [ -e "$wal/wal" ]; then keep "$wal/wal" "$wal/$aside"; fi
    if [ -e "$stage/data/member" ] && [ -e "$data/member" ]; then keep "$data/member" "$data/$aside"; fi
    flush
    if [ -e "$stage/data/member" ]; then move "$stage/data/member" "$data/member"; fi
    flush
    if [ "$wal" ] && [ -e "$wal_stage/wal" ]; then move "$wal_stage/wal" "$wal/wal"; fi
    flush
    move "$stage/stamp" "$record"
    flush
    echo swapped
fi
is_wanted "$record" || die "not staged: run etcd-snapshot restore --stage"
rm -rf -- "$stage" ${wal:+"$wal_stage"} || die "$stage: removing it failed: run again"
aside=$(sed -n 4p "$record")
case $aside in
before-restore-*[!0-9]* | before-restore-) die "$record: damaged: it does not name where the old data is" ;;
before-restore-*) ;;
*) die "$record: damaged: it does not name where the old data is" ;;
esac
for folder in "$data/$aside" ${wal:+"$wal/$aside"}; do
    [ -d "$folder" ] || continue
    bytes=$(du -s --block-size=1 -- "$folder" | cut -f 1)
    if [ "$discard" ]; then
        rm -rf -- "$folder" || die "$folder: removing it failed: run again"
    fi
    echo "old$tab$folder$tab$bytes"
done
true
