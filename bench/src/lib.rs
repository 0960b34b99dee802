//! What a message costs: the stages of its way, and the budgets that hold them.
//!
//! | module | what it knows |
//! |---|---|
//! | [`stages`] | every primitive and stage, each a step that can be repeated |
//! | [`meter`] | what of a step counts: time, or instructions under callgrind |
//! | [`world`] | connections and a shard's service in memory, without sockets |
//! | [`material`] | keys, blocks and transmissions as clients make them |
//! | [`budget`] | the file of budgets, and comparing with it |
//! | [`callgrind`] | counting the instructions of a stage |
//! | [`routers`] | routers and load generators of the release build, for what needs sockets |
//! | [`cost`] | the floor: what cannot be avoided, in microseconds |
//! | [`profile`] | what a running router spends, by kind of work |
//!
//! The programs: `stages` runs one stage, `budgets` is what `scripts/bench-check` calls, `floor` prints the cost model with
//! this machine's figures (`docs/cost-model.md`).

#![forbid(unsafe_code)]

pub mod budget;
pub mod callgrind;
pub mod cost;
pub mod material;
pub mod meter;
pub mod profile;
pub mod routers;
pub mod stages;
pub mod world;

/// Whatever went wrong, for the person who runs a bench.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;
pub type Outcome<T = ()> = Result<T, Fault>;
