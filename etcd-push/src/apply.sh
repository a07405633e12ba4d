# Does what the lines on stdin say, in their order. The bytes of a file follow
# its line. Up to the line `commit` nothing that exists is touched: what is
# new is staged beside its target, readable by root alone, and removed again
# when anything fails.
tab=$(printf '\t')
trap 'trap "" HUP INT TERM; for staged; do rm -rf -- "$staged"; done' EXIT
trap 'exit 1' HUP INT TERM

# Every process costs a few milliseconds on a small host: hence no $(...) here.
beside() { staged=${1%/*}/.${1##*/}.etcd-tools; }
clear_beside() { # of what a killed run left
    beside "$1"
    if [ -e "$staged" ] || [ -L "$staged" ]; then rm -rf -- "$staged"; fi
}
# The last word of a command's complaint is the system's reason.
why() { printf '%s\n' "$1" | sed -n '$s/.*: //; $p'; }
parents() {
    [ -d "$1" ] && return
    said=$( (umask 022; mkdir -p -- "$1") 2>&1) || die "$1: making the folder: $(why "$said")"
}
receive() { # SIZE SHA256 FILE TARGET
    said=$( { set -C; exec head -c "$1" > "$3"; } 2>&1) || die "$4: writing: $(why "$said")"
    sum=$(sha256sum < "$3") || die "$4: reading back what was written failed"
    [ "${sum%% *}" = "$2" ] || die "$4: what arrived does not have the SHA-256 of the document: $(wc -c < "$3") of $1 bytes"
}

ended=
while IFS=$tab read -r kind a b c d e; do
    case $kind in
    user) # NAME HOME
        said=$(useradd --system --user-group --home-dir "$b" --no-create-home --shell /sbin/nologin "$a" 2>&1) ||
            die "user $a: making it: $(why "$said")"
        ;;
    owner) # OWNER GROUP
        id -u "$a" >/dev/null 2>&1 || die "user $a: no such user: list it in the node's users"
        getent group "$b" >/dev/null || die "group $b: no such group"
        ;;
    remove) # PATH
        clear_beside "$a"
        ;;
    file) # PATH SIZE SHA256 MODE OWNER:GROUP
        [ ! -d "$a" ] || [ -L "$a" ] || die "$a: a folder is in the place of the file"
        parents "${a%/*}"
        clear_beside "$a"
        set -- "$@" "$staged"
        receive "$b" "$c" "$staged" "$a"
        chown -- "$e" "$staged" && chmod -- "$d" "$staged" || die "$a: setting owner and mode failed"
        ;;
    release) # DIR SIZE SHA256 BINARIES
        for tool in tar gzip; do
            command -v $tool >/dev/null || die "$tool: not found: install it to unpack the release"
        done
        parents "${a%/*}"
        clear_beside "$a"
        set -- "$@" "$staged"
        said=$(mkdir -- "$staged" 2>&1) || die "$a: making the folder: $(why "$said")"
        receive "$b" "$c" "$staged/archive" "$a"
        said=$(tar -xzf "$staged/archive" -C "$staged" --strip-components=1 --no-same-owner 2>&1) ||
            die "$a: unpacking: $(printf '%s\n' "$said" | head -n 1 | sed 's/.*: //')"
        rm -- "$staged/archive"
        for name in $d; do
            chmod 755 "$staged/$name" || die "$a: $name is not in the archive"
        done
        chmod 755 "$staged"
        ;;
    commit)
        # Older than coreutils 8.24, sync knows no files and syncs everything: as good.
        for staged; do
            if [ -d "$staged" ]; then set -- "$@" "$staged"/*; fi
        done
        # Without a name it would sync everything, too.
        [ $# = 0 ] || said=$(sync "$@" 2>&1) || die "syncing what was written: $(why "$said")"
        ;;
    directory) # PATH MODE OWNER:GROUP
        parents "$a"
        chown -- "$c" "$a" && chmod -- "$b" "$a" || die "$a: setting owner and mode failed"
        ;;
    attributes) # PATH MODE OWNER:GROUP
        chown -- "$c" "$a" && chmod -- "$b" "$a" || die "$a: setting owner and mode failed"
        ;;
    unpacked) # DIR
        rm -rf -- "$a"
        beside "$a"
        mv -fT -- "$staged" "$a" || die "$a: renaming the folder into place failed"
        ;;
    link) # PATH TARGET
        parents "${a%/*}"
        clear_beside "$a"
        said=$( (ln -s -- "$b" "$staged" && mv -fT -- "$staged" "$a") 2>&1) || die "$a: linking: $(why "$said")"
        ;;
    place) # PATH
        beside "$a"
        said=$(mv -fT -- "$staged" "$a" 2>&1) || die "$a: renaming into place: $(why "$said")"
        ;;
    sync) # FOLDER
        sync "$a" || die "$a: syncing failed"
        ;;
    end) ended=1 ;;
    # It may be a piece of a key: it is not shown.
    *) die "what arrived is not understood: a local file was changed while it was sent" ;;
    esac
done
[ "$ended" ] || die "what was to be done is cut off"
