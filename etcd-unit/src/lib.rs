//! TODO

use anyhow::Result;
use pipeline::{Common, Run, Tool};

/// TODO
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-unit", version, about)]
pub struct Unit {
    #[command(flatten)]
    common: Common,
}

impl Tool for Unit {
    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, _run: &mut Run) -> Result<()> {
        anyhow::bail!("not implemented")
    }
}
