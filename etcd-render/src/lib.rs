//! TODO

use anyhow::Result;
use pipeline::{Common, Run, Tool};

/// TODO
#[derive(Debug, clap::Parser)]
#[command(name = "etcd-render", version, about)]
pub struct Render {
    #[command(flatten)]
    common: Common,
}

impl Tool for Render {
    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, _run: &mut Run) -> Result<()> {
        anyhow::bail!("not implemented")
    }
}
