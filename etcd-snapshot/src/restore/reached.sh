# After state.sh: which revision the data of a member has reached that does not serve. All
# of it is read for that, which is why only the stage asks. One that runs has locked it.
database=$data/member/snap/db
if [ -f "$database" ] && flock -n -s "$database" true 2>/dev/null; then
    tool=$bin/etcdutl
    [ -x "$tool" ] || tool=$bin/etcdctl
    revision=$(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups \
        timeout 240 env -i ETCDCTL_API=3 "$tool" snapshot status "$database" -w json 2>/dev/null < /dev/null |
        sed -n 's/.*"revision":\([0-9]*\).*/\1/p')
    echo "reached$tab$revision"
fi
true
