//! Reading what is too large to be held in memory.

use std::io::Read;

use anyhow::{Context, Result};

/// Reads all of `from` and gives it to `sink`, piece by piece. An error in
/// reading begins with `location`; one of `sink` is passed on as it is.
pub(crate) fn pieces(
    from: &mut dyn Read,
    location: &str,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = from.read(&mut buffer).with_context(|| format!("{location}: reading"))?;
        match buffer.get(..count) {
            Some(piece) if !piece.is_empty() => sink(piece)?,
            _ => return Ok(()),
        }
    }
}
