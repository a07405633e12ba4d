//! A client that writes all the time, while something is done to its cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use tests::{Lab, Running, wait_until};

/// Writes one key after the other until the file `stop` is there: each is tried once at
/// each endpoint, beginning with the one that took the last. `acknowledged` has the keys
/// that etcd took, `failed` those that it did not, `stalls` how long each took, in ms.
const WRITER: &str = r#"
    write() {
        curl -sf -m 10 --cacert pki/ca.crt --cert pki/client.crt --key pki/client.key \
            https://192.168.1.$1:2379/v3/kv/put -d "{\"key\": \"$key\", \"value\": \"$key\"}"
    }
    rm -f stop; : > stalls
    at=100 number=${FIRST:-1000000}
    while [ ! -e stop ]; do
        number=$((number + 1)) taken= start=${EPOCHREALTIME/./}
        key=$(printf %s $number | base64)
        for try in 1 2 3; do
            if write $at | grep -q revision; then taken=1; break; fi
            at=$((100 + (at - 99) % 3))
        done
        echo $(((${EPOCHREALTIME/./} - start) / 1000)) >> stalls
        if [ $taken ]; then echo $number >> acknowledged; else echo $number >> failed; fi
    done"#;

/// A client that writes.
pub(crate) struct Writer<'a> {
    lab: &'a Lab,
    running: Running,
}

impl<'a> Writer<'a> {
    /// Starts one that counts from `first`, and waits until it writes.
    pub(crate) fn start(lab: &'a Lab, first: u64) -> Self {
        let running = lab.start(&format!("FIRST={first}; {WRITER}"));
        let stalls = lab.folder.path().join("stalls");
        wait_until("the client writes", Duration::from_secs(60), || {
            std::fs::metadata(&stalls).is_ok_and(|file| file.len() > 0)
        });
        Self { lab, running }
    }

    /// Stops it when it has written enough to judge; gives the longest that a write took, in
    /// milliseconds.
    pub(crate) fn stop(self) -> u64 {
        wait_until("the client has written", Duration::from_secs(120), || {
            self.lab.read("stalls").lines().count() > 20
        });
        self.lab.write("stop", "");
        self.running.wait().ok();
        let stalls = self.lab.read("stalls");
        stalls.lines().filter_map(|line| line.parse().ok()).max().expect("a write")
    }
}

/// No write failed at all endpoints, and each that was acknowledged is there.
#[track_caller]
pub(crate) fn all_is_kept(lab: &Lab) {
    assert!(!lab.folder.path().join("failed").exists(), "{}", lab.read("failed"));
    let kept = "curl -sf --cacert pki/ca.crt --cert pki/client.crt --key pki/client.key \
                https://192.168.1.100:2379/v3/kv/range \
                -d '{\"key\": \"AA==\", \"range_end\": \"AA==\"}' | jq -r '.kvs[].value | @base64d'";
    let kept: BTreeSet<_> = lab.bash(kept).ok().stdout.lines().map(str::to_owned).collect();
    let acknowledged = lab.read("acknowledged");
    let lost: Vec<_> = acknowledged.lines().filter(|key| !kept.contains(*key)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(acknowledged.lines().count() > 20, "{acknowledged}");
}
