# Does what the plan says: the first $1 bytes of stdin, one thing a line, its parts separated
# by tabs. The bytes of files and releases follow it, in its order. First everything is staged
# in a folder .etcd-tools beside its target, which root alone may enter; only when all of it is
# complete and on the disk is anything that exists touched. What is staged is removed again
# when anything fails. However many files a line names, it costs the same few processes.
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
attempt() { # WHAT COMMAND...
    doing=$1
    shift
    said=$("$@" 2>&1) || die "$doing: $(why "$said")"
}
# What a command said first of one of the names that it was given.
first() { printf '%s\n' "$1" | sed -n '1s/^[a-z0-9]*: //p'; }
label() { # PATH...: what is new has the SELinux label of its folder, not of its name
    [ ! "$selinux" ] || attempt "$1: restorecon" restorecon -- "$@"
}
own() { # PATH MODE OWNER:GROUP, of the working folder
    attempt "$1: setting the owner" chown -- "$3" .
    attempt "$1: setting the mode" chmod -- "$2" .
}
# Goes to the folder that is to have what is staged in it.
go() { inside='' && enter "$1"; }
# Goes into the staging folder of the folder $1. The owner of $1 may have put another in its
# place: what that leads to is not touched.
go_inside() {
    [ "$inside" != "$1" ] || return 0
    go "$1"
    here=${PWD%/}
    cd -P -- ./.etcd-tools 2>/dev/null || die "$1/.etcd-tools: entering it failed"
    case $PWD:$(stat -c %u:%a .) in
    "$here/.etcd-tools:0:700" | "$here/.etcd-tools:0:2700") inside=$1 ;;
    *) die "$1/.etcd-tools was replaced meanwhile" ;;
    esac
}
remove_staged() { # FOLDER: the working folder
    if staged "$PWD" "$1"; then rm -rf --one-file-system -- ./.etcd-tools; fi
}
need() { command -v "$1" >/dev/null || die "$1: not found: install it to unpack what is sent"; }
is_folder() { [ -d "$1" ] && [ ! -L "$1" ]; }

# Sets $said to what the binary $2 says of its version; $1 is what is said of it.
ask_version() {
    said=$(timeout 10 "$2" --version 2>&1 < /dev/null | head -n 1)
    case $said in
    'etcd Version: '*) ;;
    # The shell that the C library tries on what the kernel refuses prints its bytes.
    *[!\ -~]*) die "$1: etcd does not run on this host: fetch the release for its architecture" ;;
    *) die "$1: etcd does not run on this host: $(why "$said")" ;;
    esac
}

# Whether an etcd, which has its database open, runs the file $1 of the folder above, or what was
# there before it; sets $running to its version.
runs() {
    set +f
    found=$(find /proc/[0-9]*/fd -maxdepth 1 -lname '*/member/snap/db*' 2>/dev/null)
    set -f
    IFS=$newline
    running=''
    for fd in $found; do
        exe=${fd%/fd/*}/exe
        [ "$exe" -ef "../$1" ] || [ "$(readlink "$exe")" = "${PWD%.etcd-tools}$1 (deleted)" ] || continue
        running=$(timeout 10 "$exe" --version 2>/dev/null < /dev/null | sed -n 's/^etcd Version: //p')
        break
    done
    IFS=$tab
    [ "$running" ]
}

# Stages what a line of the plan says.
stage() {
    kind=$1
    shift
    case $kind in
    user) # NAME HOME
        group=--user-group
        if getent group "$1" >/dev/null; then group=--gid=$1; fi
        attempt "user $1: creating it" useradd --system "$group" --home-dir "$2" --no-create-home --shell /sbin/nologin "$1"
        ;;
    stale) # FOLDER
        go "$1"
        remove_staged "$1"
        ;;
    folder) # PATH MODE OWNER:GROUP
        go "$1"
        own "$1" "$2" "$3"
        label "$1"
        ;;
    staging) # FOLDER
        go "$1"
        remove_staged "$1"
        attempt "$1/.etcd-tools: making the folder" mkdir -m 700 -- ./.etcd-tools
        label "$1/.etcd-tools"
        ;;
    release) # FOLDER NAME SIZE SHA256 BINARIES
        need tar
        need gzip
        go_inside "$1"
        release=$1/$2
        attempt "$release: making the folder" mkdir -- "$2"
        said=$( (head -c "$3" > archive) 2>&1) || die "$release: writing: $(why "$said")"
        sum=$(sha256sum < archive)
        [ "${sum%% *}" = "$4" ] ||
            die "$release: what arrived does not have the SHA-256 of the document: $(wc -c < archive) of $3 bytes"
        said=$(tar -xzf archive -C "$2" --strip-components=1 --no-same-owner 2>&1) ||
            die "$release: unpacking: $(printf '%s\n' "$said" | head -n 1 | sed 's/.*: //')"
        rm -- archive
        IFS=' '
        for binary in $5; do
            chmod 755 "$2/$binary" || die "$release: $binary is not in the archive"
            # systemd may run no file that has the label of a library.
            [ ! "$selinux" ] || attempt "$release: chcon" chcon -t bin_t "$2/$binary"
        done
        IFS=$tab
        chmod 755 "$2"
        if [ -e "$2/etcd" ]; then ask_version "$release" "$2/etcd"; fi
        ;;
    program) # FOLDER NAME: it replaces another, which etcd may run
        go_inside "$1"
        runs "$2" || return 0
        ask_version "$1/$2" "./$2"
        case $said in
        "etcd Version: ${running%.*}."*) ;;
        *) die "$1/$2: it is etcd v${said#*: }, and v$running runs: for another minor version: \`scripts/upgrade NODES v${said#*: }\`" ;;
        esac
        ;;
    links) # FOLDER TARGET...: of the same names as their targets
        go_inside "$1"
        shift
        attempt "$inside: linking" ln -s -t . -- "$@"
        ;;
    files) # FOLDER SIZE NAME...: they come in a tar archive of SIZE bytes
        need tar
        go_inside "$1"
        size=$2
        shift 2
        for name; do
            ! is_folder "../$name" || die "$inside/$name: a folder is in the place of the file: move it away"
        done
        said=$(head -c "$size" 2>/dev/null | tar -xmf - --no-same-owner --no-same-permissions 2>&1) ||
            case $said in
            *'Unexpected EOF'* | *'not look like a tar'*) die "$inside: the files were truncated in transit: run again" ;;
            *)
                # What is written in part only is all that there is room for.
                said=$(first "$said" | sed 's/Wrote only .*/No space left on device/')
                die "$inside/${said%%: *}: writing: ${said##*: }"
                ;;
            esac
        ;;
    sums) # FOLDER LINE...: what sha256sum says of the files
        go_inside "$1"
        shift
        said=$(printf '%s\n' "$@" | sha256sum -c --quiet - 2>&1) || {
            said=${said%%: FAILED*}
            die "$inside/${said##*"$newline"}: it was changed while it was sent, or damaged on the way: run again"
        }
        ;;
    own) # FOLDER MODE OWNER:GROUP NAME...
        go_inside "$1"
        mode=$2 owner=$3
        shift 3
        attempt "$inside: setting the owner" chown -- "$owner" "$@"
        attempt "$inside: setting the mode" chmod -- "$mode" "$@"
        ;;
    flush) # FOLDER NAME..., or nothing but the folder for all that is on its file system
        go_inside "$1"
        shift
        if [ $# = 0 ]; then
            sync -f . 2>/dev/null || attempt "$inside: syncing what was written" sync
            return 0
        fi
        # Older than coreutils 8.24, sync knows no files and syncs everything: as good.
        attempt "$inside: syncing what was written" sync -- "$@"
        ;;
    esac
}

# Puts in place what a line of the plan says.
place() {
    kind=$1
    shift
    case $kind in
    attributes) # PATH MODE OWNER:GROUP
        go "$1"
        own "$1" "$2" "$3"
        ;;
    release) # FOLDER NAME SIZE SHA256 BINARIES
        go_inside "$1"
        if is_folder "../$2"; then
            # It is in use: each binary is the old or the new one at any moment.
            IFS=' '
            for binary in $5; do
                attempt "$1/$2/$binary: renaming into place" mv -fT -- "$2/$binary" "../$2/$binary"
            done
            IFS=$tab
        else
            attempt "$1/$2: renaming into place" mv -fT -- "$2" "../$2"
        fi
        ;;
    place) # FOLDER NAME...
        go_inside "$1"
        shift
        # The folder that the staging folder lies in: root alone can move that to another.
        said=$(mv -f -t .. -- "$@" 2>&1) || die "$inside: renaming into place: $(first "$said")"
        if [ "$selinux" ]; then
            for name; do
                set -- "$@" "${inside%/}/$name"
                shift
            done
            label "$@"
        fi
        ;;
    remove) # FOLDER NAME...
        go "$1"
        folder=$1
        shift
        for name; do
            ! is_folder "./$name" || die "$folder/$name: a folder is in the place of the file: move it away"
        done
        attempt "$folder: removing files" rm -f -- "$@"
        ;;
    done) # FOLDER
        go "$1"
        remove_staged "$1"
        attempt "$1: syncing the folder" sync -- .
        ;;
    esac
}

# Removes what is staged for a line of the plan.
unstage() {
    case $1 in
    staging)
        (
            resolve "$2"
            if cd -P -- "$real" && [ "$PWD" = "$real" ]; then remove_staged "$2"; fi
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

inside=''
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
each place $all
staged_lines=0
