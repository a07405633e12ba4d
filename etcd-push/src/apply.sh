# Does what the plan says: the first $1 bytes of stdin, one thing a line. The bytes of the
# files follow it, in its order. First everything is staged beside its target, readable by
# root alone; only when all of it is complete and on the disk is anything that exists
# touched. What is staged is removed again when anything fails.
tab=$(printf '\t')
newline='
'
plan=$(head -c "$1")
case $plan in
*"${newline}end") ;;
*) die "the plan was truncated in transit: run again" ;;
esac
# From here on words are split at tabs or line ends only, and never matched with files.
set -f
selinux=
if command -v selinuxenabled >/dev/null && selinuxenabled; then selinux=1; fi

# Every process costs a few milliseconds on a small host: hence few $(...) here.
# Goes to the folder of the path $1, and names it and what is staged for it.
at() {
    name=${1##*/} folder=${1%/*}
    staged=./.$name.etcd-tools
    enter "${folder:-/}"
}
remove_staged() {
    if [ -e "$staged" ] || [ -L "$staged" ]; then rm -rf -- "$staged"; fi
}
attempt() { # WHAT COMMAND...
    doing=$1
    shift
    said=$("$@" 2>&1) || die "$doing: $(why "$said")"
}
label() { # PATH: a new file has the SELinux label of its folder, not of its name
    [ ! "$selinux" ] || attempt "$1: restorecon" restorecon -- "$1"
}
own() { # PATH MODE OWNER:GROUP, of the working folder
    attempt "$1: setting the owner" chown -- "$3" .
    attempt "$1: setting the mode" chmod -- "$2" .
}
# The owner of the folder may replace what is staged in it: hence all through one descriptor.
receive() { # FILE TARGET SIZE SHA256 MODE OWNER:GROUP
    said=$( (
        set -C
        {
            head -c "$3" >&3 || exit 1
            sum=$(sha256sum < /proc/self/fd/3) || exit 1
            if [ "${sum%% *}" != "$4" ]; then
                echo "what arrived does not have the SHA-256 of the document: $(wc -c < /proc/self/fd/3) of $3 bytes"
                exit 9 # a shell's own errors are 1 or 2
            fi
            chown -- "$6" /proc/self/fd/3 && chmod -- "$5" /proc/self/fd/3
        } 3> "$1"
    ) 2>&1)
    case $? in
    0) ;;
    9) die "$2: $said" ;;
    *) die "$2: writing: $(why "$said")" ;;
    esac
}

# Stages what a line of the plan says.
stage() {
    case $1 in
    user) # NAME HOME
        attempt "user $2: creating it" useradd --system --user-group --home-dir "$3" --no-create-home --shell /sbin/nologin "$2"
        ;;
    owner) # OWNER GROUP
        case $2 in *[!0-9]*) id -u "$2" >/dev/null 2>&1 || die "user $2: no such user: list it in the node's users" ;; esac
        case $3 in *[!0-9]*) getent group "$3" >/dev/null || die "group $3: no such group" ;; esac
        ;;
    stale) # PATH
        at "$2"
        remove_staged
        ;;
    folder) # PATH MODE OWNER:GROUP
        enter "$2"
        own "$2" "$3" "$4"
        label "$2"
        ;;
    file) # PATH SIZE SHA256 MODE OWNER:GROUP
        at "$2"
        [ ! -d "./$name" ] || [ -L "./$name" ] || die "$2: a folder is in the place of the file: move it away"
        remove_staged
        receive "$staged" "$2" "$3" "$4" "$5" "$6"
        label "$PWD/${staged#./}"
        ;;
    release) # DIR SIZE SHA256 BINARIES
        for tool in tar gzip; do
            command -v $tool >/dev/null || die "$tool: not found: install it to unpack the release"
        done
        at "$2"
        remove_staged
        attempt "$2: making the folder" mkdir -- "$staged"
        receive "$staged/archive" "$2" "$3" "$4" 600 :
        said=$(tar -xzf "$staged/archive" -C "$staged" --strip-components=1 --no-same-owner 2>&1) ||
            die "$2: unpacking: $(printf '%s\n' "$said" | head -n 1 | sed 's/.*: //')"
        rm -- "$staged/archive"
        IFS=' '
        for binary in $5; do
            chmod 755 "$staged/$binary" || die "$2: $binary is not in the archive"
            # systemd may run no file that has the label of a library.
            [ ! "$selinux" ] || attempt "$2: chcon" chcon -t bin_t "$staged/$binary"
        done
        IFS=$tab
        chmod 755 "$staged"
        if [ -e "$staged/etcd" ]; then
            said=$(timeout 10 "$staged/etcd" --version 2>&1 < /dev/null | head -n 1)
            case $said in
            'etcd Version: '*) ;;
            # The shell that the C library tries on what the kernel refuses prints its bytes.
            *[!\ -~]*) die "$2: etcd does not run on this host: fetch the release for its architecture" ;;
            *) die "$2: etcd does not run on this host: $(why "$said")" ;;
            esac
        fi
        ;;
    esac
}

# Puts in place what a line of the plan says.
place() {
    case $1 in
    attributes) # PATH MODE OWNER:GROUP
        enter "$2"
        own "$2" "$3" "$4"
        ;;
    release) # DIR SIZE SHA256 BINARIES
        at "$2"
        if [ -d "./$name" ]; then
            # It is in use: each binary is the old or the new one at any moment.
            IFS=' '
            for binary in $5; do
                attempt "$2/$binary: renaming into place" mv -fT -- "$staged/$binary" "./$name/$binary"
            done
            IFS=$tab
            remove_staged
        else
            attempt "$2: renaming into place" mv -fT -- "$staged" "./$name"
        fi
        ;;
    link) # PATH TARGET
        at "$2"
        remove_staged
        attempt "$2: linking" ln -s -- "$3" "$staged"
        attempt "$2: linking" mv -fT -- "$staged" "./$name"
        ;;
    remove) # PATH
        at "$2"
        remove_staged
        attempt "$2: removing it" rm -f -- "./$name"
        ;;
    file) # PATH SIZE SHA256 MODE OWNER:GROUP
        at "$2"
        attempt "$2: renaming into place" mv -fT -- "$staged" "./$name"
        label "$2"
        ;;
    esac
}

# Removes what is staged for a line of the plan.
unstage() {
    case $1 in
    file | release | link)
        (
            resolve "${2%/*}/"
            staged=./.${2##*/}.etcd-tools
            if cd -P -- "$real" && [ "$PWD" = "$real" ]; then remove_staged; fi
        ) 2>/dev/null
        ;;
    esac
}

# Does $1 to each of the first $2 lines of the plan, and counts them in $begun.
each() {
    begun=0
    IFS=$newline
    for line in $plan; do
        IFS=$tab
        [ $begun -lt "$2" ] || break
        begun=$((begun + 1))
        "$1" $line
    done
}

# Adds up the paths to sync, some hundred to a process. Older than coreutils 8.24, sync
# knows no files and syncs everything: as good. Without a name all others would, too.
to_sync='' to_sync_count=0
sync_later() {
    to_sync=$to_sync$1$newline to_sync_count=$((to_sync_count + 1))
    if [ $to_sync_count -ge 200 ]; then sync_now; fi
}
sync_now() {
    IFS=$newline
    # shellcheck disable=SC2086
    [ ! "$to_sync" ] || attempt "syncing what was written" sync $to_sync
    IFS=$tab
    to_sync='' to_sync_count=0
}
sync_staged() {
    case $1 in
    file) sync_later "${2%/*}/.${2##*/}.etcd-tools" ;;
    release)
        IFS=' '
        for binary in $5; do sync_later "${2%/*}/.${2##*/}.etcd-tools/$binary"; IFS=' '; done
        IFS=$tab
        ;;
    esac
}
sync_folder() {
    case $1 in sync) sync_later "$2" ;; esac
}

all=1000000
staged_lines=0
clean_up() {
    trap '' HUP INT TERM
    each unstage "$staged_lines"
}
# Nobody may be there any more to read what is written.
trap '' PIPE
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
stage_counted() {
    staged_lines=$begun
    stage "$@"
}
each stage_counted $all
each sync_staged $all
sync_now
each place $all
each sync_folder $all
sync_now
staged_lines=0
