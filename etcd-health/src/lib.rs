//! `etcd-health`: the health and status of an etcd cluster.
//!
//! Probes the document's nodes, or any endpoints, reports on stderr what is
//! wrong, and writes a table, Prometheus metrics, or the document with
//! `health` filled in.

mod prometheus;
mod report;
mod table;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use client::{ClusterProbe, EndpointArgs, Problem, Targets};
use cluster::route::{Route, Via};
use pipeline::terminal::{self, Progress};
use pipeline::{Common, Error, Examples, IN_WORDS, Run, Tool};
use remote::{Fleet, SshArgs};

/// Health and status of an etcd cluster
///
/// The endpoints are those of --endpoints; else those of the document's nodes;
/// else, without a document, those of ETCD_TOOLS_ENDPOINTS or ETCDCTL_ENDPOINTS. A
/// document takes precedence over the variables, so that one left set for another
/// cluster does not redirect a pipeline. Certificates come from the flags; else, for a
/// document, from its pki or the folder of --pki; else from a --pki that is given;
/// else from ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY; else from the folder pki.
/// Without a CA certificate the CAs that this machine trusts count, or with
/// ETCDCTL_INSECURE_SKIP_TLS_VERIFY=true none.
/// For a cluster with authentication, set ETCDCTL_USER and ETCDCTL_PASSWORD.
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-health", version)]
pub struct Health {
    #[command(flatten)]
    endpoints: EndpointArgs,
    /// Probe again until all is healthy, for at most this many seconds
    /// [without a value: 60]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60",
          value_parser = positive_or_file)]
    wait: Option<Duration>,
    /// Give each endpoint this many seconds to answer [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    timeout: Option<Duration>,
    /// Compare the members' data by hash; each reads all of its data for it
    ///
    /// A minute at most; needs etcd 3.5.10 and, with authentication on, the root
    /// user. Without it only the revisions are compared.
    #[arg(long)]
    hash: bool,
    /// How to reach the endpoints; ssh goes to their client port on their hosts
    #[arg(long, value_enum, default_value = "direct")]
    via: Via,
    /// What to write to stdout [default: table on a terminal, else json]
    ///
    /// json is the document with `health` filled in.
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Do not verify the servers' certificates: whoever answers is taken for etcd
    #[arg(long, help_heading = IN_WORDS)]
    insecure_skip_tls_verify: bool,
    #[command(flatten)]
    ssh: SshArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
    Prometheus,
}

impl Tool for Health {
    fn common(&self) -> &Common {
        &self.common
    }

    fn examples(_: &str) -> Examples {
        &[
            (
                "Wait until all members are healthy and agree:",
                "etcd-unit start < cluster.json | etcd-health --wait",
            ),
            (
                "Any etcd, from a script:",
                "etcd-health --endpoints https://10.0.0.1:2379 --cacert ca.crt --cert c.crt \\\n  --key c.key",
            ),
            (
                "Behind a firewall, over ssh, and with the members' data compared:",
                "etcd-health --via ssh --hash cluster.json",
            ),
        ]
    }

    fn without(_: &str) -> &'static [&'static str] {
        &["check", "lock_timeout"]
    }

    fn reads_stdin(&self) -> bool {
        self.endpoints.endpoints.is_empty()
    }

    fn works_without_document(&self) -> bool {
        // Else a pipe that failed would report on the cluster of a variable.
        !self.endpoints.endpoints.is_empty() || terminal::nothing_piped_in()
    }

    fn writes_document(&self) -> bool {
        self.format() == Format::Json
    }

    fn run(&self, run: &mut Run) -> Result<()> {
        let mut endpoints = self.endpoints.clone();
        endpoints.unverified = self.insecure_skip_tls_verify;
        let targets = endpoints.resolve(&run.document, &run.nodes(), self.timeout)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let probed = runtime.block_on(self.probe(run, targets));
        // A name server that does not answer must not hold up the end.
        runtime.shutdown_background();
        let (probe, not_compared) = probed?;
        let wait = self.wait.filter(|_| !probe.is_final());
        match self.format() {
            Format::Json => {}
            Format::Table => terminal::print(&table::render(&probe.health))?,
            Format::Prometheus => terminal::print(&prometheus::render(&probe))?,
        }
        report::report(run, &probe, &not_compared, wait);
        run.document.health = Some(probe.health);
        Ok(())
    }
}

impl Health {
    fn format(&self) -> Format {
        let usual = terminal::table_or(Format::Table, Format::Json);
        self.output.unwrap_or(usual)
    }

    /// Probes the cluster, until it is healthy with `--wait`, and then with `--hash`
    /// compares the members' data. Gives also what could not be compared.
    async fn probe(&self, run: &Run, targets: Targets) -> Result<(ClusterProbe, Vec<Problem>)> {
        let by_ssh = self.via == Via::Ssh;
        let fleet = by_ssh.then(|| Fleet::new(&self.ssh, run.common.jobs)).transpose()?;
        let invalid = |error: client::Error| Error::usage(error.to_string());
        let route = Route::via(targets, fleet.as_ref())?;
        let probe_once = async |limit: Duration| route.probe(limit).await.map_err(invalid);
        let mut probe = match self.wait {
            None => probe_once(Duration::MAX).await?,
            Some(limit) => {
                let progress = Progress::wait("waiting for etcd");
                let label = |probe: &ClusterProbe| {
                    let why = probe.why_unhealthy().unwrap_or_default();
                    progress.label(format!("waiting: {why}"));
                };
                client::wait_healthy_with(limit, probe_once, label).await?
            }
        };
        if !self.hash || probe.unreachable {
            return Ok((probe, Vec::new()));
        }
        let _progress = Progress::wait("hashing the members' data");
        let endpoints = route.endpoints().await.map_err(invalid)?;
        let not_compared = client::compare_hashes(&endpoints, &mut probe).await;
        Ok((probe, not_compared))
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    match pipeline::parse_seconds(text)? {
        Duration::ZERO => Err("expected at least 1 second".into()),
        duration => Ok(duration),
    }
}

/// The same as [`positive`], and what to do where the value is a file.
fn positive_or_file(text: &str) -> Result<Duration, String> {
    positive(text).map_err(|why| match Path::new(text).exists() {
        true => format!("{why}: put the file before --wait"),
        false => why,
    })
}
