//! TODO

use anyhow::Result;
use pipeline::{Common, Run, Tool};

/// TODO
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-cert", version, about)]
pub struct Cert {
    #[command(flatten)]
    common: Common,
}

impl Tool for Cert {
    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, _run: &mut Run) -> Result<()> {
        anyhow::bail!("not implemented")
    }
}
