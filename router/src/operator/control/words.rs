//! Queues in the words of the reference's control port, which scripts of operators read.

use ringpost_protocol::command::QueueMode;
use ringpost_protocol::error::{BlockingInfo, BlockingReason};
use ringpost_shard::service::QueueReport;
use ringpost_store::Status;

const SECS_PER_DAY: u64 = 86_400;

pub fn status(status: &Status) -> String {
    match status {
        Status::Active => "EntityActive".to_owned(),
        Status::Suspended => "EntityOff".to_owned(),
        Status::Blocked(info) => format!("EntityBlocked ({})", blocking(info)),
    }
}

pub fn blocking(info: &BlockingInfo) -> String {
    let reason = match info.reason {
        BlockingReason::Spam => "BRSpam",
        BlockingReason::Content => "BRContent",
    };
    let notice = match info.notice {
        None => "Nothing".to_owned(),
        Some(notice) => {
            let ttl = match notice.ttl_secs {
                None => "Nothing".to_owned(),
                Some(secs) if secs < 0 => format!("Just ({secs})"),
                Some(secs) => format!("Just {secs}"),
            };
            format!("Just (ClientNotice {{ttl = {ttl}}})")
        }
    };
    format!("BlockingInfo {{reason = {reason}, notice = {notice}}}")
}

pub fn queue(report: &QueueReport) -> String {
    let used = match report.used_day {
        0 => "Nothing".to_owned(),
        day => {
            let secs = u64::from(day) * SECS_PER_DAY;
            format!("Just (RoundedSystemTime {{roundedSeconds = {secs}}})")
        }
    };
    let mode = match report.mode {
        None => "Nothing",
        Some(QueueMode::Messaging) => "Just QMMessaging",
        Some(QueueMode::Contact) => "Just QMContact",
    };
    format!("status: {}, updatedAt: {used}, queueMode: {mode}", status(&report.status))
}
