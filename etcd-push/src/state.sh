# Says what is there of the things named on stdin.
tab=$(printf '\t')
# The echo of some shells changes backslashes.
say() { printf '%s\n' "$1"; }
say "machine$tab$(uname -m)"
while IFS=$tab read -r kind a b c; do
    case $kind in
    user)
        if id -u "$a" >/dev/null 2>&1; then say "user$tab$a"; fi
        ;;
    path | text)
        left=${b%/*}/.${b##*/}.etcd-tools
        if [ -e "$left" ] || [ -L "$left" ]; then say "left$tab$b"; fi
        what=$(stat -c "%a$tab%U$tab%G$tab%F" -- "$b" 2>/dev/null) || continue
        sum=-
        if [ "$a" != - ] && [ -f "$b" ] && [ ! -L "$b" ]; then
            sum=$(sha256sum < "$b") || die "$b: reading it failed"
            sum=${sum%% *}
        fi
        say "path$tab$b$tab$sum$tab$what"
        if [ "$kind" = text ] && [ "$sum" != - ] && [ "$sum" != "$a" ]; then
            say "text$tab$b$tab$(base64 < "$b" | tr -d '\n')"
        fi
        ;;
    release)
        good=1
        for name in $c; do
            if [ ! -x "$a/$name" ]; then good=0; fi
            if [ "$(readlink "$b/$name")" = "$a/$name" ]; then say "link$tab$name"; fi
        done
        if [ $good = 1 ]; then echo release; fi
        ;;
    esac
done
