# Says where on the host there are write-ahead logs of etcd, but for what is on the network and in
# the images of containers.
tab=$(printf '\t')
seen=
timeout 60 find / -maxdepth 10 \( -fstype nfs -o -fstype nfs4 -o -fstype cifs -o -fstype proc -o -fstype sysfs -o \
    -path /proc -o -path /sys -o -path /dev -o -path /usr -o -path /var/lib/docker -o \
    -path /var/lib/containers -o -path /var/lib/containerd \) -prune -o \
    -type f -name '????????????????-????????????????.wal' -print 2>/dev/null | while IFS= read -r file; do
    folder=${file%/*}
    case $seen in *"|$folder|"*) continue ;; esac
    seen="$seen|$folder|"
    head=$(od -An -v -tx1 -N 128 -- "$file" | tr -d ' \n')
    printf 'fit\tstray\t%s\n' "${folder%/member/wal}$tab$folder$tab$head"
done
true
