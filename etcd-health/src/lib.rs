//! TODO

use anyhow::Result;
use pipeline::{Common, Run, Tool};

/// TODO
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-health", version, about)]
pub struct Health {
    #[command(flatten)]
    common: Common,
}

impl Tool for Health {
    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, _run: &mut Run) -> Result<()> {
        anyhow::bail!("not implemented")
    }
}
