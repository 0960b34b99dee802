//! `bench/budgets.toml`: what each stage may cost, and comparing with it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// The file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// What the code finds of this processor under callgrind. With other features it takes other paths, whose counts
    /// cannot be compared.
    pub cpu: String,
    /// How far counts of instructions may be above what was recorded.
    pub instructions_margin_percent: f64,
    /// The same for what is measured on a running router.
    pub ratios_margin_percent: f64,
    /// By stage.
    pub instructions: BTreeMap<String, f64>,
    /// By name.
    pub ratios: BTreeMap<String, f64>,
}

/// The file's place in this repository.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("budgets.toml")
}

const HEAD: &str = "\
# What each stage may cost: the figures of the last `scripts/bench-check --record`. The check fails where a count is
# further above than the margin. Raising a figure is a decision: say in the commit what it buys.
# docs/cost-model.md explains the stages; `stages --list` names them.

";

impl Budgets {
    pub fn read(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    pub fn write(&self, path: &Path) -> Outcome {
        let text = format!("{HEAD}{}", toml::to_string(self)?);
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

/// What was measured against what is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Within,
    /// So much above what was recorded.
    Exceeds {
        percent: f64,
    },
    /// So much below it: recording it keeps the gain.
    Below {
        percent: f64,
    },
    /// Nothing is recorded for it.
    Unknown,
}

impl Verdict {
    pub fn of(measured: f64, recorded: Option<f64>, margin_percent: f64) -> Self {
        let Some(recorded) = recorded.filter(|recorded| *recorded > 0.0) else { return Self::Unknown };
        let percent = (measured / recorded - 1.0) * 100.0;
        match () {
            () if percent > margin_percent => Self::Exceeds { percent },
            () if percent < -margin_percent => Self::Below { percent: -percent },
            () => Self::Within,
        }
    }

    /// Whether the check fails for it.
    pub fn fails(self) -> bool {
        matches!(self, Self::Exceeds { .. } | Self::Unknown)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within => f.write_str("ok"),
            Self::Exceeds { percent } => write!(f, "EXCEEDED by {percent:.1} %"),
            Self::Below { percent } => write!(f, "{percent:.1} % below: record it"),
            Self::Unknown => f.write_str("NOT RECORDED: scripts/bench-check --record"),
        }
    }
}

/// One line of the table: a name, what was measured, what is recorded, the verdict.
pub fn line(name: &str, measured: f64, recorded: Option<f64>, verdict: Verdict) -> String {
    let mut line = format!("    {name:<24} {:>12}", number(measured));
    match recorded {
        Some(recorded) => {
            let percent = (measured / recorded - 1.0) * 100.0;
            let _ = write!(line, " {:>12} {percent:>+7.1} %  {verdict}", number(recorded));
        }
        None => {
            let _ = write!(line, " {:>12} {:>9}  {verdict}", "-", "");
        }
    }
    line
}

/// Three digits behind the point for what is small.
fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn fifteen_percent_more_is_told_and_a_little_is_not() {
        assert_eq!(Verdict::of(1_000.0, Some(1_000.0), 5.0), Verdict::Within);
        assert_eq!(Verdict::of(1_049.0, Some(1_000.0), 5.0), Verdict::Within);
        let slower = Verdict::of(1_150.0, Some(1_000.0), 5.0);
        assert!(slower.fails());
        assert_eq!(slower.to_string(), "EXCEEDED by 15.0 %");
        assert!(!Verdict::of(800.0, Some(1_000.0), 5.0).fails());
        assert!(matches!(Verdict::of(800.0, Some(1_000.0), 5.0), Verdict::Below { .. }));
        assert!(Verdict::of(1.0, None, 5.0).fails());
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budgets.toml");
        let budgets = Budgets {
            cpu: "avx2".into(),
            instructions_margin_percent: 5.0,
            ratios_margin_percent: 10.0,
            instructions: BTreeMap::from([("tls-open".into(), 31_415.0)]),
            ratios: BTreeMap::from([("always-over-off".into(), 1.25)]),
        };
        budgets.write(&path).unwrap();
        assert_eq!(Budgets::read(&path).unwrap(), budgets);
        std::fs::write(&path, "cpu = 1").unwrap();
        assert!(Budgets::read(&path).unwrap_err().to_string().contains("budgets.toml"));
        assert!(Budgets::read(&folder.path().join("none")).is_err());
    }

    /// The file in the repository has every stage, and nothing else.
    #[test]
    fn every_stage_has_a_budget() {
        let budgets = Budgets::read(&super::path()).unwrap();
        let mut stages: Vec<&str> = crate::stages::STAGES.iter().map(|stage| stage.name).collect();
        stages.sort_unstable();
        assert_eq!(budgets.instructions.keys().collect::<Vec<_>>(), stages);
        // A deliberate slowdown of 15 % must be caught.
        assert!(budgets.instructions_margin_percent <= 7.5);
    }
}
