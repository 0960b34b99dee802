//! What an operator sees of a running router and does to it.
//!
//! | module | what it does |
//! |---|---|
//! | `desk` | what the others share: the router's shards, statistics, settings that may change |
//! | `operation` | starts and ends all of it with the router |
//! | `control` | the control port |
//! | `statistics` | the reference's statistics: totals, file, daily lines |
//! | `keeper` | writes files when their time has come |
//! | `metrics` | for Prometheus: the reference's names and our own, as file and over HTTP |
//! | `process` | what the system says of the process |
//! | `report` | everything in one JSON object |
//! | `status` | `smp-server status`: a report for people |
//! | `reload` | settings that change while the router runs |

pub mod control;
pub mod desk;
pub mod keeper;
pub mod local;
pub mod metrics;
pub mod operation;
pub mod process;
pub mod reload;
pub mod report;
pub mod statistics;
pub mod status;
