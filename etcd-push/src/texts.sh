# Prints the texts of the regular files named on stdin, one after the other, in base64.
set -f
paths='' newline='
'
while read -r path; do
    if [ -f "$path" ] && [ ! -L "$path" ]; then paths=$paths$path$newline; fi
done
IFS=$newline
# shellcheck disable=SC2086
[ ! "$paths" ] || timeout 60 cat -- $paths | base64 | tr -d '\n'
