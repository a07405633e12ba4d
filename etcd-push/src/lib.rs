//! TODO

use anyhow::Result;
use pipeline::{Common, Run, Tool};

/// TODO
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-push", version, about)]
pub struct Push {
    #[command(flatten)]
    common: Common,
}

impl Tool for Push {
    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, _run: &mut Run) -> Result<()> {
        anyhow::bail!("not implemented")
    }
}
