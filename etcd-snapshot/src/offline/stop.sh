# Ends what the start has started.
systemctl stop etcd-tools-offline etcd-tools-offline-watch 2>/dev/null
systemctl reset-failed etcd-tools-offline etcd-tools-offline-watch 2>/dev/null
rm -rf -- /run/etcd-tools-offline
true
