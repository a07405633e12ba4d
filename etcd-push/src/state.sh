# Says what is there of the things named on stdin, and dies where something is in their
# place. Nothing is changed. The number of processes does not depend on that of the files.
set -f
tab=$(printf '\t')
newline='
'
# The echo of some shells changes backslashes.
say() { printf '%s\n' "$1"; }
# Sets $at_real to the folder of the path $1, without links, and $name to its last part, and
# reports what an interrupted run left in the folder. Those of one folder mostly follow each
# other, and there may be thousands.
at_folder=.
at() {
    name=${1##*/} folder=${1%/*}
    if [ "$folder" = "$at_folder" ]; then return; fi
    resolve "${folder:-/}"
    at_folder=$folder at_real=${real%/}
    if staged "$at_real" "$folder"; then say "stale$tab${folder:-/}"; fi
    [ "$mounts" ] || read_mounts
    at_mounts=
    case $newline$mounts in *"$newline$at_real/"*) at_mounts=1 ;; esac
}
# Adds up the paths to look at, some hundred to a process, and those of regular files.
asked='' paths='' regular='' count=0
look_later() { # REAL PATH
    asked="${asked}path$tab$1$tab$2$newline"
    paths=$paths$1$newline
    count=$((count + 1))
    if [ $count -ge 400 ]; then look; fi
}
look() {
    printf '%s' "$asked"
    IFS=$newline
    # What goes meanwhile is not there.
    # shellcheck disable=SC2086
    [ ! "$paths" ] || stat -c "stat$tab%s$tab%a$tab%U$tab%G$tab%u$tab%g$tab%F$tab%n" -- $paths 2>/dev/null
    if [ "$regular" ]; then
        # shellcheck disable=SC2086
        { said=$(sha256sum -- $regular 2>&1 >&3) || die "reading: $(say "$said" | sed -n '1s/^sha256sum: //p')"; } 3>&1
    fi
    IFS=$tab
    asked='' paths='' regular='' count=0
}
# Whether the user or group $2 is there, or will be: useradd makes a group of the name, too.
created=' '
exists() { # DATABASE NAME
    case $2 in root) return 0 ;; *[!0-9]*) ;; *) return 0 ;; esac
    case $created in *" $2 "*) return 0 ;; esac
    getent "$1" "$2" >/dev/null
}
# Prints the line of kind $1 for the path $2, there or not, with where it is without links.
place() {
    where=$(
        exec 2>/dev/null
        if [ -d "$2" ]; then
            resolve "$2"
        else
            resolve "${2%/*}"
            real=${real%/}/${2##*/}
        fi
        say "$real"
    )
    [ ! "$where" ] || say "$1$tab$where$tab$2"
}
# `read` asks the kernel for each byte: all of it at once.
input=$(cat)
# What the etcd of this host has, whatever the document says of it; what that knows is its own.
etcds() { # FOLDER PATH in it
    case $newline$input$newline in *"${newline}own$tab$1$newline"*) ;; *) place etcds "$2" ;; esac
}
unit=/etc/systemd/system/etcd.service
if [ -f "$unit" ]; then
    config='' told=''
    IFS=$newline
    for line in $(cat -- "$unit"); do
        case $line in
        EnvironmentFile=*) config=${line#*=} config=${config#-} ;;
        ExecStart=*) told="$told ${line#*=}" ;;
        esac
    done
    if [ -f "$config" ]; then
        etcds "${config%/*}" "${config%/*}/etcd.member"
        for line in $(cat -- "$config"); do
            case $line in
            ETCD_DATA_DIR=* | ETCD_WAL_DIR=*) value=${line#*=} ;;
            ETCD_TRUSTED_CA_FILE=*) value=${line#*=} value=${value%/*} ;;
            *) continue ;;
            esac
            value=${value#[\"\']} value=${value%[\"\']}
            case $value in /*) etcds "$value" "$value" ;; esac
        done
    fi
    IFS=' '
    flag=''
    for word in $told; do
        case $flag$word in
        --data-dir=/* | --wal-dir=/* | -data-dir=/* | -wal-dir=/*) etcds "${word#*=}" "${word#*=}" ;;
        --data-dir/* | --wal-dir/* | -data-dir/* | -wal-dir/*) etcds "$word" "$word" ;;
        esac
        case $word in -*) flag=$word ;; *) flag='' ;; esac
    done
fi
IFS=$newline
for line in $input; do
    case $line in "path$tab"*)
        path=${line#*"$tab"}
        at "$path"
        file=$at_real/$name
        [ "$file" = "$path" ] || say "real$tab$file$tab$path"
        # Each look at a path costs: first what there mostly is.
        if [ -L "$file" ]; then
            look_later "$file" "$path"
        elif [ -f "$file" ]; then
            if [ "$at_mounts" ] && is_mount "$file"; then say "mount$tab$path"; fi
            regular=$regular$file$newline
            look_later "$file" "$path"
        elif [ -d "$file" ]; then
            die "$path: a folder is in the place of the file: move it away"
        elif [ -e "$file" ]; then
            die "$path: a device, pipe or socket is in the place of the file: name another path"
        fi
        continue
        ;;
    esac
    IFS=$tab
    # shellcheck disable=SC2086
    set -- $line
    kind=$1 a=${2:-} b=${3:-} c=${4:-}
    case $kind in
    user) # NAME
        if id -u "$a" >/dev/null 2>&1; then say "user$tab$a"; else created="$created$a "; fi
        ;;
    owner) # OWNER GROUP, after all users
        exists passwd "$a" || die "user $a: no such user: list it in the node's users"
        exists group "$b" || die "group $b: no such group: create it, or set another user or group"
        ;;
    own) # PATH of these tools or of etcd, there or not
        place own "$a"
        ;;
    folder) # PATH
        resolve "$a"
        # A path that leads to another.
        [ "$real" = "$a" ] || say "real$tab$real$tab$a"
        if [ -d "$real" ]; then look_later "$real" "$a"; fi
        ;;
    release) # DIR BIN_DIR BINARIES
        say "machine$tab$(uname -m)"
        at "$a"
        at "$b/etcd"
        [ ! -e "$a" ] || [ -d "$a" ] || die "$a: a file is in the place of the folder: move it away"
        good=1
        # Of an archive that is only announced no name is known.
        if [ ! -x "$a/etcd" ]; then good=0; fi
        IFS=' '
        for name in $c; do
            if [ ! -x "$a/$name" ]; then good=0; fi
            if [ "$(readlink "$b/$name")" = "$a/$name" ]; then
                say "link$tab$name"
            elif [ -d "$b/$name" ] && [ ! -L "$b/$name" ]; then
                die "$b/$name: a folder is in the place of the link: move it away"
            elif [ -e "$b/$name" ]; then
                case $(readlink "$b/$name") in
                /usr/local/lib/etcd-tools/*) ;;
                *) die "$b/$name: not a link of these tools: move it away, or choose another binDir" ;;
                esac
            fi
        done
        IFS=$tab
        if [ $good = 1 ]; then echo release; fi
        ;;
    esac
done
look
