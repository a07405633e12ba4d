# Says what is there of the things named on stdin, and dies where something is in their
# place. Nothing is changed. The number of processes does not depend on that of the files.
set -f
tab=$(printf '\t')
newline='
'
# The echo of some shells changes backslashes.
say() { printf '%s\n' "$1"; }
# Sets $real to the folder $1, without links and without a last slash, and reports what an
# interrupted run left there.
at() {
    resolve "$1"
    real=${real%/}
    if staged "$real" "$1"; then say "stale$tab$1"; fi
}
# The paths to look at, without links, each with a line break after it: thousands at once, as a
# loop over all of them costs more than all else.
folders='' files=''
look() {
    [ "$folders$files" ] || return 0
    IFS=$newline
    # What goes meanwhile is not there.
    # shellcheck disable=SC2086
    said=$(stat -c "stat$tab%s$tab%a$tab%U$tab%G$tab%u$tab%g$tab%F$tab%n" -- $folders $files 2>/dev/null) && all=1 || all=''
    [ ! "$said" ] || { say "$said"; said=$said$newline; }
    for _ in $folders; do said=${said#*"$newline"}; done
    case $all$said in
    *"${tab}directory$tab"* | *"${tab}symbolic link$tab"* | *"special file$tab"* | *"${tab}fifo$tab"* | *"${tab}socket$tab"*) all='' ;;
    esac
    if [ ! "$said" ]; then regular=''; elif [ "$all" ]; then regular=$files; else regulars; fi
    if [ "$regular" ]; then
        # shellcheck disable=SC2086
        { sum=$(sha256sum -- $regular 2>&1 >&3) || die "reading: $(say "$sum" | sed -n '1s/^sha256sum: //p')"; } 3>&1
    fi
    IFS=$tab
    folders='' files=''
}
# Sets $regular to those of $files that are regular files.
regulars() {
    regular=''
    for file in $files; do
        if [ -L "$file" ]; then
            [ ! -d "$file" ] || die "$file: a link to a folder is in the place of the file: remove it first, or name the folder"
        elif [ -f "$file" ]; then
            regular=$regular$file$newline
        elif [ -d "$file" ]; then
            die "$file: a folder is in the place of the file: move it away"
        elif [ -e "$file" ]; then
            die "$file: a device, pipe or socket is in the place of the file: name another path"
        fi
    done
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
# What an etcd of this host has, whatever the document says of it; what that knows is its own.
etcds() { # FOLDER PATH in it
    case $newline$input$newline in *"${newline}own$tab$1$newline"*) ;; *) place etcds "$2" ;; esac
}
# The same of what a file of variables, the lines $1, names.
named() {
    IFS=$newline
    for line in $1; do
        case $line in
        ETCD_DATA_DIR=* | ETCD_WAL_DIR=*) value=${line#*=} ;;
        ETCD_CONFIG_FILE=*) value=${line#*=} ;;
        ETCD_*_FILE=*)
            value=${line#*=}
            value=${value#[\"\']} value=${value%[\"\']}
            case $value in /*) ;; *) continue ;; esac
            # These tools have all of them in one folder.
            case $ours$line in
            1ETCD_TRUSTED_CA_FILE=*) etcds "${value%/*}" "${value%/*}" ;;
            *) etcds "${value%/*}" "$value" ;;
            esac
            continue
            ;;
        *) continue ;;
        esac
        value=${value#[\"\']} value=${value%[\"\']}
        case $value in /*) etcds "$value" "$value" ;; esac
    done
}
# The same of the flags of a command, its words each on a line.
flagged() {
    flag=''
    IFS=$newline
    for word in $1; do
        case $flag$word in
        --data-dir*/* | --wal-dir*/* | --config-file*/* | -data-dir*/* | -wal-dir*/* | -config-file*/*)
            word=${word#*=}
            etcds "$word" "$word"
            ;;
        -*-file=/* | -*-file/*)
            word=${word#*=}
            etcds "${word%/*}" "$word"
            ;;
        esac
        case $word in -*) flag=$word ;; *) flag='' ;; esac
    done
}
unit=/etc/systemd/system/etcd.service
ours=''
if [ -f "$unit" ]; then
    configs='' program='' user=root
    set +f
    text=$(cat -- "$unit" "$unit.d"/*.conf 2>/dev/null)
    set -f
    # Of these tools is the one that keeps the mark.
    case $text in */etcd.member*) ours=1 ;; esac
    IFS=$newline
    for line in $text; do
        case $line in
        EnvironmentFile=/* | EnvironmentFile=-/*) line=${line#*=} configs=$configs${line#-}$newline ;;
        ExecStart=?*) program=${line#*=} ;;
        User=?*) user=${line#*=} ;;
        esac
    done
    say "runs$tab$user"
    for config in $configs; do
        [ -f "$config" ] || [ -f "${config%/*}/etcd.member" ] || continue
        etcds "${config%/*}" "$config"
        etcds "${config%/*}" "${config%/*}/etcd.member"
        # Where a member was told once, and where it has its data, if that is lost.
        { IFS= read -r word && IFS= read -r data && IFS= read -r wal; } 2>/dev/null < "${config%/*}/etcd.member" && {
            etcds "$data" "$data"
            etcds "$wal" "$wal"
        }
        if [ -f "$config" ]; then named "$(cat -- "$config")"; fi
        IFS=$newline
    done
    IFS=' '
    words=''
    for word in $program; do words=$words$word$newline; done
    flagged "$words"
    program=${words%%"$newline"*}
    while :; do case $program in [-@:+!\|]*) program=${program#?} ;; *) break ;; esac; done
    # One that is no link is replaced by whoever brought it.
    if [ -L "$program" ]; then etcds "${program%/*}" "$program"; fi
fi
# What those that run have, whatever they are called: they have a database open.
set +f
found=$(find /proc/[0-9]*/fd -maxdepth 1 -lname '*/member/snap/db*' 2>/dev/null)
set -f
IFS=$newline
others=''
for fd in $found; do
    process=${fd%/fd/*}
    case $others in *"|$process|"*) continue ;; esac
    others="$others|$process|"
    [ "$process/ns/net" -ef /proc/self/ns/net ] || continue
    service=''
    while IFS=: read -r _ _ path; do
        case $path in *.service) service=${path##*/} ;; esac
    done 2>/dev/null < "$process/cgroup"
    file=$(readlink "$process/exe")
    say "program$tab${file% (deleted)}"
    case $service$ours in etcd.service1) continue ;; esac
    say "runs$tab$(stat -c %U "$process" 2>/dev/null)"
    set +f
    set -- "$process"/fd/*
    set -f
    IFS=$newline
    for file in $(readlink -- "$@" 2>/dev/null); do
        case $file in
        */member/snap/db*) etcds "${file%/member/snap/db*}" "${file%/member/snap/db*}" ;;
        *.wal | *.wal' (deleted)') etcds "${file%/*}" "${file%/*}" ;;
        esac
    done
    environ=$(tr '\0' '\n' < "$process/environ" 2>/dev/null)
    named "$environ"
    words=$(tr '\0' '\n' < "$process/cmdline" 2>/dev/null)
    flagged "$words"
    config=''
    case $newline$environ in *"${newline}ETCD_CONFIG_FILE="*) config=${environ#*ETCD_CONFIG_FILE=} ;; esac
    case $words in *config-file*) config=${words#*config-file} config=${config#[=$newline]} ;; esac
    config=${config%%"$newline"*}
    # YAML or JSON, in whatever style.
    IFS=$newline
    for file in $(tr '{},' '\n\n\n' 2>/dev/null < "${config:-/dev/null}" |
        sed -n 's/^[[:space:]]*["'\'']\{0,1\}\(data-dir\|wal-dir\|[a-z-]*file\)["'\'']\{0,1\}:[[:space:]]*["'\'']\{0,1\}\(\/[^"'\'' ]*\).*/\2/p'); do
        etcds "$file" "$file"
    done
    for folder in /etc/systemd/system /run/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
        [ "$service" ] || continue
        if [ -e "$folder/$service" ]; then etcds "$folder/$service" "$folder/$service"; fi
        etcds "$folder/$service.d" "$folder/$service.d"
    done
done
# Two paths may lead to one place, too, where a folder is mounted at another.
# Of some of them there may be thousands.
sed -n '\, /\(proc\|sys\|dev\|run\|var/lib/kubelet\|var/lib/docker\|var/lib/contain[^ ]*\)/,d
    s/^[0-9]* [0-9]* \([^ ]*\) \([^ ]*\) \([^ ]*\) .*/at\t\1\t\2\t\3/p' /proc/self/mountinfo
IFS=$newline
for line in $input; do
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
        if [ -d "$real" ]; then folders=$folders$real$newline; fi
        ;;
    files) # FOLDER PATH in it...
        shift 2
        at "$a"
        [ "$mounts" ] || read_mounts
        mounted=''
        case $newline$mounts in *"$newline$real/"*) mounted=1 ;; esac
        if [ "$real" = "${a%/}" ] && [ ! "$mounted" ]; then
            IFS=$newline
            files=$files$*$newline
            IFS=$tab
        else
            for path; do
                file=$real/${path##*/}
                [ "$file" = "$path" ] || say "real$tab$file$tab$path"
                if [ "$mounted" ] && [ -f "$file" ] && is_mount "$file"; then say "mount$tab$path"; fi
                files=$files$file$newline
            done
        fi
        # How much fits on a command line is limited.
        [ ${#files} -lt 100000 ] || look
        ;;
    release) # DIR BIN_DIR BINARIES
        say "machine$tab$(uname -m)"
        at "${a%/*}"
        at "$b"
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
