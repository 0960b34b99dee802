//! What a log is told when it is started, and what it counts.

use super::Durability;

/// Faults to put into a log, to see that the simulation finds them. Without the feature `simulation` they do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A commit counts as durable when it is written.
    SkipSync,
    /// Answers when a commit is handed to the disk.
    AnswerBeforeSync,
    /// Takes pages as they come.
    IgnorePageCrc,
    /// Does not look whether the bodies of the last commit are there.
    IgnoreBodyCrc,
    /// Delivers bodies as they come.
    IgnoreCrcAtDelivery,
    /// Applies the pages of a log from the last to the first.
    ReplayBackwards,
    /// Forgets the records of every 16th partition.
    ForgetPartition,
    /// Erases bodies before it is durable that they may be.
    EraseTooEarly,
    /// Forgets every fourth body that is to be erased.
    ForgetErase,
    /// Erases bodies of the newest commit without a proof on the disk that it was durable.
    SkipProof,
    /// Writes a root before the images it names are on the disk.
    RootBeforeImages,
    /// Erases what an old root needs before the new one is on the disk.
    CleanBeforeRoot,
    /// A root lets recovery begin one commit too late.
    FloorTooHigh,
    /// Applies records that an image contains already.
    IgnoreImageLsn,
    /// Takes the end of a log as it is even where commits that must have been there are missing.
    IgnoreLostEnd,
    /// Leaves out the history in pages below the floor.
    KeepOldPages,
    /// Starts to take records before all shards have their root, and deletes the old ones at once.
    HurryStart,
    /// Takes a sync that failed for one that succeeded.
    IgnoreSyncError,
    /// Lets the records of a batch go into different commits.
    SplitBatches,
    /// Leaves the former content behind the last commit of a segment that was written over.
    KeepRest,
    /// Keeps segments to be written over, however long that takes.
    KeepRetired,
}

/// What a log is told when it is started.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A multiple of the block size. Default 64 MiB.
    pub segment_bytes: u64,
    pub durability: Durability,
    /// What ends is gone from the disk after this time.
    pub erase_within_ms: u64,
    /// Bytes appended but not yet handed to the disk, at most.
    pub pending_bytes_max: usize,
    /// Index pages that recovery has to read, at most (about).
    pub replay_pages_max: usize,
    /// Keeps every dead segment to write over, whether or not that is likely to happen in time, for the simulation.
    #[doc(hidden)]
    pub reuses_all: bool,
    #[doc(hidden)]
    pub mutation: Option<Mutation>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            durability: Durability::Always,
            erase_within_ms: 60_000,
            pending_bytes_max: 16 << 20,
            replay_pages_max: 16_384,
            reuses_all: false,
            mutation: None,
        }
    }
}

impl LogConfig {
    pub(super) fn mutated(&self, mutation: Mutation) -> bool {
        cfg!(feature = "simulation") && self.mutation == Some(mutation)
    }
}

/// Figures for metrics, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub commits: u64,
    pub syncs: u64,
    /// Bytes of records and bodies, as the caller gave them.
    pub appended_bytes: u64,
    /// Bytes handed to the disk: commits, images and roots.
    pub written_bytes: u64,
    pub image_bytes: u64,
    /// Rounds of renewing images and erasing that were completed.
    pub rounds: u64,
    pub punched_bytes: u64,
    pub segments_deleted: u64,
    /// Written over instead of deleted.
    pub segments_reused: u64,
    /// Appends refused for lack of space.
    pub refused_no_space: u64,
    pub refused_busy: u64,
    /// Images that were not written because they are larger than a segment.
    pub oversized_images: u64,
}
