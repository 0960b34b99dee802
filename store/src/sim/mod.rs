//! A disk that does what disks do at worst, in an order that a seed decides.

mod disk;
mod random;

pub use disk::{Fault, SimDisk};
pub use random::Random;
