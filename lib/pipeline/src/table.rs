//! Tables for people.

use std::ops::Range;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::terminal;

/// A table with a `header` and `rows`, without lines around its cells, and one line at the
/// end; the columns `numbers` are aligned to the right. What came from elsewhere stays in
/// its cell, whatever it holds.
pub fn table<R: AsRef<[String]>>(
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
    numbers: Range<usize>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.as_ref().iter().map(|cell| terminal::line(cell).into_owned()));
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}
