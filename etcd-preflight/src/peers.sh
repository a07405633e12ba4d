# Connects to ports of other nodes, and says what came of it: a line each with the number of
# the node, the port, what came of it (open, refused, silent, blocked, or nothing where this
# host has no program for it), how long it took in seconds, and what was said. stdin: ports,
# and then an address a line.
read -r ports || die "the query was truncated in transit"
tab=$(printf '\t')
limit=3

# Each says how long it took, and, where it failed, why.
with_bash() { # ADDRESS PORT
    LC_ALL=C timeout "$limit" bash -c 'TIMEFORMAT=%3R; time { true < "/dev/tcp/$1/$2"; }' bash "$1" "$2" 2>&1
}
with_curl() {
    case $1 in *:*) set -- "[$1]" "$2" ;; esac
    LC_ALL=C curl -sS --connect-timeout "$limit" -m "$limit" -o /dev/null -w '%{time_connect}\n' "telnet://$1:$2" 2>&1 < /dev/null
}
if command -v bash > /dev/null; then
    dial=with_bash
elif command -v curl > /dev/null; then
    dial=with_curl
else
    dial=
fi

look() { # NUMBER ADDRESS PORT
    least=
    for _ in 1 2 3; do
        said=$("$dial" "$2" "$3")
        code=$?
        took=$(printf '%s\n' "$said" | sed -n '$s/^\([0-9][0-9]*\.[0-9]*\)$/\1/p')
        least=$(printf '%s\n' $least $took | sort -n | head -n 1)
        # curl waits for an end that does not come, once it is connected.
        case $code-$took in
        0-* | 28-*[1-9]*) what=open ;;
        124-* | 28-*) what=silent ;;
        *) case $said in *refused*) what=refused ;; *) what=blocked ;; esac ;;
        esac
        # A slow answer may be a busy host's.
        case $what-$took in silent-* | blocked-* | *-0.00*) break ;; esac
    done
    why=$(printf '%s\n' "$said" | sed -n 's/^.*\(No route to host\|Network is unreachable\|Connection timed out\).*$/\1/p' | head -n 1)
    printf '%s\n' "$1$tab$3$tab$what$tab$least$tab$why"
}

number=0
while read -r address; do
    at=$address
    if command -v getent > /dev/null; then
        at=$(getent ahosts "$address" | sed -n '1s/ .*//p')
    fi
    if [ ! "$at" ]; then
        printf '%s\n' "$number$tab${tab}unresolved$tab$tab"
    elif [ ! "$dial" ]; then
        printf '%s\n' "$number$tab$tab$tab$tab"
    else
        # All at once: one that is silent holds up no other.
        for port in $ports; do look "$number" "$at" "$port" & done
    fi
    number=$((number + 1))
done
wait
