//! Names of a log's files, all in one directory.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// Blocks of records, bodies and bucket images.
    Segment,
    /// Where recovery begins.
    Root,
}

/// `GGGGGGGG-SSS-NNNNNNNN.seg` or `.root`: generation, shard and sequence number in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName {
    pub kind: FileKind,
    pub generation: u32,
    pub shard: u16,
    pub sequence: u32,
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extension = match self.kind {
            FileKind::Segment => "seg",
            FileKind::Root => "root",
        };
        write!(f, "{:08}-{:03}-{:08}.{extension}", self.generation, self.shard, self.sequence)
    }
}

/// Not the name of a log's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a log's file")]
pub struct NotALogFile;

impl FromStr for FileName {
    type Err = NotALogFile;

    fn from_str(name: &str) -> Result<Self, NotALogFile> {
        let (stem, extension) = name.rsplit_once('.').ok_or(NotALogFile)?;
        let kind = match extension {
            "seg" => FileKind::Segment,
            "root" => FileKind::Root,
            _ => return Err(NotALogFile),
        };
        let mut numbers = stem.split('-');
        let mut next = || numbers.next().ok_or(NotALogFile);
        let (generation, shard, sequence) = (next()?, next()?, next()?);
        let file = Self {
            kind,
            generation: generation.parse().map_err(|_| NotALogFile)?,
            shard: shard.parse().map_err(|_| NotALogFile)?,
            sequence: sequence.parse().map_err(|_| NotALogFile)?,
        };
        // One name for one file: no sign, no missing or further zeros.
        if file.to_string() == name { Ok(file) } else { Err(NotALogFile) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_nothing_else_is() {
        let file = FileName { kind: FileKind::Segment, generation: 7, shard: 12, sequence: 100_000_001 };
        assert_eq!(file.to_string(), "00000007-012-100000001.seg");
        assert_eq!(file.to_string().parse(), Ok(file));
        for other in
            ["", ".seg", "1-2-3.seg", "00000007-012-00000001.sex", "+0000007-012-00000001.seg", "lock"]
        {
            assert_eq!(other.parse::<FileName>(), Err(NotALogFile), "{other}");
        }
    }
}
