//! How a place in the document, and a value that is wrong, is shown to people.

use std::fmt::Write;

/// The most characters of a value that a message shows. Whoever puts a key or a
/// whole file into the wrong field does not get it back on the terminal.
const SHOWN: usize = 60;

/// A place in the document, such as `nodes[0].files[2].path`; empty for the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place(String);

impl Place {
    /// The value of `key` in the object at this place. A key that is no plain word
    /// stands in brackets and quotes: `annotations["a.b"]`.
    pub(crate) fn key(&self, key: &str) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let mut path = self.0.clone();
        if key.is_empty() || key.len() > SHOWN || !key.chars().all(plain) {
            let _ = write!(path, "[{}]", shown(key));
        } else {
            path += if path.is_empty() { "" } else { "." };
            path += key;
        }
        Self(path)
    }

    /// The item at `index` of the list at this place.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl From<&serde_ignored::Path<'_>> for Place {
    fn from(path: &serde_ignored::Path) -> Self {
        use serde_ignored::Path;
        match path {
            Path::Root => Self::default(),
            Path::Seq { parent, index } => Self::from(*parent).item(*index),
            Path::Map { parent, key } => Self::from(*parent).key(key),
            Path::Some { parent }
            | Path::NewtypeStruct { parent }
            | Path::NewtypeVariant { parent } => Self::from(*parent),
        }
    }
}

impl From<&serde_path_to_error::Path> for Place {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        path.iter().fold(Self::default(), |place, segment| match segment {
            Segment::Seq { index } => place.item(*index),
            Segment::Map { key } => place.key(key),
            Segment::Enum { .. } | Segment::Unknown => place,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// `text` in quotes as a message shows it: a long one shortened.
pub(crate) fn shown(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// The first characters of `text`, with an ellipsis when there are more.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
