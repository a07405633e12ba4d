# Says what is there of the things named on stdin, and dies where something is in their
# place. Nothing is changed.
tab=$(printf '\t')
# The echo of some shells changes backslashes.
say() { printf '%s\n' "$1"; }
# Sets $real to the folder of the path $1, $name to its last part, and reports what an
# interrupted run left beside it.
at() {
    name=${1##*/} folder=${1%/*}
    resolve "${folder:-/}"
    real=${real%/}
    if [ -e "$real/.$name.etcd-tools" ] || [ -L "$real/.$name.etcd-tools" ]; then say "stale$tab$1"; fi
}
show() { what=$(stat -c "%s$tab%a$tab%U$tab%G$tab%u$tab%g$tab%F" -- "$1" 2>/dev/null); }
# More than this is not shown, in bytes.
large=262144
say "machine$tab$(uname -m)"
while IFS=$tab read -r kind a b c; do
    case $kind in
    user) # NAME
        if id -u "$a" >/dev/null 2>&1; then say "user$tab$a"; fi
        ;;
    folder) # PATH
        resolve "$a"
        if show "$real"; then say "path$tab$a$tab-$tab${what#*"$tab"}"; fi
        ;;
    path | text) # SHA256 PATH
        at "$b"
        show "$real/$name" || continue
        sum=-
        case $what in
        *"${tab}directory") die "$b: a folder is in the place of the file: move it away" ;;
        *"${tab}regular"*)
            sum=$(sha256sum < "$real/$name") || die "$b: reading it failed"
            sum=${sum%% *}
            ;;
        esac
        size=${what%%"$tab"*} what=${what#*"$tab"}
        say "path$tab$b$tab$sum$tab$what"
        if [ "$kind" = text ] && [ "$sum" != - ] && [ "$sum" != "$a" ]; then
            case ${what%%"$tab"*} in
            # What others may not read is not shown either.
            *[0123]) ;;
            *) if [ "$size" -le $large ]; then say "text$tab$b$tab$(base64 < "$real/$name" | tr -d '\n')"; fi ;;
            esac
        fi
        ;;
    release) # DIR BIN_DIR BINARIES
        at "$a"
        [ ! -e "$a" ] || [ -d "$a" ] || die "$a: a file is in the place of the folder: move it away"
        good=1
        for name in $c; do
            if [ ! -x "$a/$name" ]; then good=0; fi
            if [ "$(readlink "$b/$name")" = "$a/$name" ]; then
                say "link$tab$name"
            elif [ -d "$b/$name" ] && [ ! -L "$b/$name" ]; then
                die "$b/$name: a folder is in the place of the link: move it away"
            fi
        done
        if [ $good = 1 ]; then echo release; fi
        ;;
    esac
done
