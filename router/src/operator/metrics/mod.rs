//! Metrics in the text format of Prometheus.
//!
//! | file | what it does |
//! |---|---|
//! | `reference`, `subscriptions` | the names of the reference, so that its dashboards work |
//! | `own` | what this router has beside them: `ringpost_...`, by shard |
//! | `http` | `GET /metrics` on a port of 127.0.0.1 |

pub mod http;
pub mod own;
pub mod reference;
pub mod subscriptions;

use std::fmt::{Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::desk::Desk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// Metrics being written.
#[derive(Debug)]
struct Page {
    text: String,
    /// Behind each value: milliseconds since 1970, if the page is kept for a while.
    time: String,
}

impl Page {
    fn new(at: Option<SystemTime>) -> Self {
        let ms = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Self { text: String::new(), time: at.map(|at| format!(" {}", ms(at))).unwrap_or_default() }
    }

    // Writing to a string does not fail.

    fn comment(&mut self, text: &str) {
        let _ = writeln!(self.text, "# {text}");
    }

    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
    }

    /// Labels are without braces.
    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let Self { text, time } = self;
        let _ = match labels {
            "" => writeln!(text, "{name} {value}{time}"),
            labels => writeln!(text, "{name}{{{labels}}} {value}{time}"),
        };
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.sample(name, "", value);
    }
}

/// All metrics. With a time for a file, without for whoever asks now.
pub fn text(desk: &Desk, at: Option<SystemTime>) -> String {
    let mut page = Page::new(at);
    reference::write(&mut page, &reference::Values::read(desk), at);
    own::write(&mut page, &own::Values::read(desk));
    page.text
}
