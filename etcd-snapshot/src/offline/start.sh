# Starts the script $3 as the transient unit etcd-tools-offline, as the user $1, who owns the
# data directory $2, with the rest as its arguments. A second unit ends it when the run that
# started it has lost the lock of the host, or ends. stdin: a certificate for it, and its key.
user=$1 data=$2 script=$3
shift 3
unit=etcd-tools-offline
systemctl stop $unit-watch $unit 2>/dev/null
systemctl reset-failed $unit-watch $unit 2>/dev/null
command -v systemd-run >/dev/null || die "systemd-run: not found"
group=$(id -gn "$user") || die "user $user: no such user: run etcd-push first"
# Only root can place anything in /run.
certificates=/run/etcd-tools-offline
pem=$(cat)
part() { printf '%s\n' "$pem" | sed -n "/^-----BEGIN $1-----/,/^-----END $1-----/p"; }
rm -rf -- $certificates && mkdir -m 700 $certificates && part CERTIFICATE > $certificates/cert.pem &&
    part 'PRIVATE KEY' > $certificates/key.pem && chown -R "$user:" $certificates ||
    die "$certificates: writing failed"
watch='while ! flock -n "$1" true && { read -r _; read -r token; } < "$1" && [ "$token" = "$2" ]; do sleep 0.5; done
systemctl stop "$3"
rm -rf -- "$4"
systemctl reset-failed "$3" 2>/dev/null || true'
said=$(systemd-run --quiet --unit=$unit-watch --description="etcd-tools: ends $unit" /bin/sh -c "$watch" sh "$lock" "$token" $unit $certificates 8>&- 2>&1) &&
    said=$(systemd-run --quiet --unit=$unit --description="etcd-tools: serves a copy of the data" -p User="$user" -p Group="$group" -p LimitNOFILE=65536 -p UMask=0077 \
        -p Environment=LC_ALL=C /bin/sh -c "$script" sh "$data" "$@" 8>&- 2>&1) ||
    die "systemd-run: $(printf '%s\n' "$said" | tail -n 1)"
