//! The version that is shown to people.

/// As `--version` and the start of the router print it.
pub fn line() -> String {
    format!("Ringpost smp-server {}", env!("CARGO_PKG_VERSION"))
}
