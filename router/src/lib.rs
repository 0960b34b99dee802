//! The `SimpleX` routers: command line, configuration, identity files, start and stop.
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | commands and options of `smp-server` |
//! | [`init`] | makes a new router: identity, certificates, ini |
//! | [`start`] | from the files to a running router, and to its end |
//! | [`migrate`] | to and from the reference implementation; checking what is stored |
//! | `certificates`, `removal` | another online certificate; the end of a router |
//! | `upgrade` | another program takes the process over, with its listening sockets |
//! | `takeover` | where the binary of the reference was replaced by ours |
//! | `web` | pages for browsers |
//! | [`ini`], `configuration` | reads ini files and remembers the lines |
//! | [`settings`] | what an ini asks for, as types; which keys there are |
//! | [`storage`] | the data directory: its lock, and where the log and the key of the ID hash are |
//! | [`identity`] | certificates and secrets as files |
//! | [`mod@reference`] | the files of the reference implementation: its queues and messages as text |
//! | [`operator`] | control port, statistics, metrics, status, reload |
//! | [`exit`] | why a process ends: codes and messages |

#![forbid(unsafe_code)]

pub mod cli;
pub mod exit;
pub mod identity;
pub mod ini;
pub mod init;
pub mod migrate;
pub mod operator;
pub mod paths;
pub mod reference;
pub mod settings;
pub mod start;
pub mod storage;

mod address;
mod certificates;
mod clock;
mod configuration;
mod files;
mod listen;
mod logging;
mod process_limits;
mod random;
mod removal;
mod signals;
mod takeover;
mod upgrade;
mod version;
mod web;
