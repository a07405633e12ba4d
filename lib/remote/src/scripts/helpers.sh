die() { printf '%s\n' "$*" >&2; exit 1; }
# Sets $real to the path of the folder $1 without links, and dies if a part of it is no
# folder; from the first missing part on, it is taken as it stands. A link is followed
# only if nobody but root could have placed it: through any other, its owner would choose
# what root changes.
resolve() {
    real='' links=0 rest=${1#/}
    while [ "$rest" ]; do
        part=${rest%%/*}
        case $rest in */*) rest=${rest#*/} ;; *) rest='' ;; esac
        case $part in
        '' | .) ;;
        ..) real=${real%/*} ;;
        *)
            if [ -L "$real/$part" ]; then
                links=$((links + 1))
                [ $links -le 40 ] || die "$1: too many levels of symbolic links"
                mode=$(stat -c %a -- "$real/") || die "$1: reading its state failed"
                # Who may write to a folder may place links in it, but in a sticky one
                # only as owner. Of && and || none comes before the other: hence the braces.
                if [ "$(stat -c %u -- "$real/$part")" != 0 ] || [ "$(stat -c %u -- "$real/")" != 0 ] ||
                    { [ $((0$mode & 022)) != 0 ] && [ $((0$mode & 01000)) = 0 ]; }; then
                    die "$1: $real/$part is a link that another user than root could have placed: name the folder that it leads to instead"
                fi
                link=$(readlink -- "$real/$part")
                case $link in /*) real='' ;; esac
                rest=${link#/}${rest:+/$rest}
            elif [ -e "$real/$part" ] && [ ! -d "$real/$part" ]; then
                die "$1: $real/$part is a file in the place of a folder: move it away"
            else
                real=$real/$part
            fi
            ;;
        esac
    done
    real=${real:-/}
}
# The mount points of the host, each on a line, read once.
mounts=
read_mounts() {
    # What it has of blanks and backslashes is in octal.
    mounts=$(IFS=' '; while read -r _ _ _ _ point _; do printf '%b\n' "$point"; done < /proc/self/mountinfo)
}
# Whether something is mounted at $1, a path without links.
is_mount() {
    [ "$mounts" ] || read_mounts
    case "
$mounts
" in *"
$1
"*) ;; *) return 1 ;; esac
}
# Dies if the staging folder in $2, which is $1 without links, is not as these tools make it:
# what else has its name is not theirs to remove. Fails if there is none.
staged() { # REAL FOLDER
    [ -e "${1%/}/.etcd-tools" ] || [ -L "${1%/}/.etcd-tools" ] || return 1
    if [ ! -L "${1%/}/.etcd-tools" ] && ! is_mount "${1%/}/.etcd-tools"; then
        case $(stat -c %u:%a:%F -- "${1%/}/.etcd-tools") in
        0:700:directory | 0:2700:directory) return 0 ;;
        esac
    fi
    die "${2%/}/.etcd-tools: not of these tools: move it away"
}
# The last word of a command's complaint is the system's reason.
why() { printf '%s\n' "$1" | sed -n '$s/.*: //; $p'; }
# Makes the folder $1 the working folder, and makes its missing parts, for all to read.
# What is done to `.` and `./NAME` after that is done there, whoever moves or replaces
# folders and links meanwhile.
enter() {
    if cd -P -- "$1" 2>/dev/null && [ "$PWD" = "$1" ]; then return; fi
    resolve "$1"
    cd / || die "/: entering it failed"
    rest=${real#/}
    while [ "$rest" ]; do
        part=${rest%%/*} here=${PWD%/}
        case $rest in */*) rest=${rest#*/} ;; *) rest='' ;; esac
        if [ ! -d "./$part" ]; then
            said=$( (umask 022; mkdir -- "./$part") 2>&1) || die "$1: making the folder: $(why "$said")"
        fi
        cd -P -- "./$part" 2>/dev/null || die "$1: $here/$part: entering it failed"
        [ "$PWD" = "$here/$part" ] || die "$1: $here/$part was replaced by a link meanwhile"
    done
}
