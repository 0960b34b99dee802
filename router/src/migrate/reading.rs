//! The reference's files, read and judged line by line.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Display;
use std::io::{self, BufRead};
use std::sync::mpsc::sync_channel;

use ringpost_protocol::limits::SEND_BODY_BYTES_MAX;
use ringpost_store::log::BODY_BYTES_MAX;
use ringpost_store::parts::{NOTIFICATION_META_BYTES_MAX, NOTIFICATIONS_MAX};
use ringpost_store::queue::RECIPIENT_KEYS_MAX;

use super::report::{LineCounts, Report, Verdict};
use crate::reference::state::QUEUE_DELETED;
use crate::reference::{
    Applied, BadLine, Change, Id, Line, LineReader, Link, MessageContent, MessageLine, NotificationLine,
    QueueRecord, Refused, ServiceRecord, State, StoreLine,
};

/// Why a line is not imported.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Line(#[from] BadLine),
    #[error(transparent)]
    State(#[from] Refused),
    #[error("{what} of {found} bytes, where {most} are the most")]
    TooLong { what: &'static str, found: usize, most: usize },
    #[error("{0} recipient keys, where {RECIPIENT_KEYS_MAX} are the most")]
    TooManyKeys(usize),
    /// Much of a line can be missing without it being malformed.
    #[error("the line may have been cut off, since no line break follows it; add one if the line is whole")]
    CutOff,
    #[error("a time before 1970, or out of reach")]
    Time,
    #[error("{0}")]
    NoEffect(&'static str),
}

impl Refusal {
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::NoEffect(_) => Verdict::PassedOver,
            _ => Verdict::Rejected,
        }
    }
}

/// The notifications to keep, by notifier ID, the oldest first.
pub type Notifications = HashMap<Id, VecDeque<NotificationLine>>;

fn content(line: Line<'_>) -> Result<&[u8], Refusal> {
    let content = line.content.map_err(BadLine::clone)?;
    if line.is_ended { Ok(content) } else { Err(Refusal::CutOff) }
}

/// Lines that are handed over at once, and how many such parcels wait: of the largest messages about 35 MB.
const PARCEL_LINES: usize = 256;
const PARCELS_MAX: usize = 4;

/// Parses lines in a thread of its own and hands them over in their order. The outer error is that of `each`, the inner one
/// that of the input.
pub fn parse_lines<T: Send, E>(
    input: impl BufRead + Send,
    parse: impl Fn(Line<'_>) -> Result<T, Refusal> + Send,
    mut each: impl FnMut(u64, Result<T, Refusal>) -> Result<(), E>,
) -> Result<io::Result<()>, E> {
    let (sender, parcels) = sync_channel(PARCELS_MAX);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> io::Result<()> {
            let mut reader = LineReader::new(input);
            let mut parcel = Vec::new();
            while let Some(line) = reader.next_line()? {
                parcel.push((line.number, parse(line)));
                // Nobody takes parcels any more after an error.
                if parcel.len() >= PARCEL_LINES && sender.send(std::mem::take(&mut parcel)).is_err() {
                    return Ok(());
                }
            }
            let _ = sender.send(parcel);
            Ok(())
        });
        for (number, parsed) in parcels.into_iter().flatten() {
            each(number, parsed)?;
        }
        Ok(reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Goes through all lines; `apply` says of those that could be parsed which are not imported.
fn read_lines<T: Send>(
    input: impl BufRead + Send,
    parse: impl Fn(Line<'_>) -> Result<T, Refusal> + Send,
    mut apply: impl FnMut(u64, T) -> Result<(), Refusal>,
    mut refused: impl FnMut(u64, Verdict, &dyn Display),
) -> io::Result<LineCounts> {
    let mut counts = LineCounts::default();
    let done = parse_lines(input, parse, |number, parsed| {
        counts.read += 1;
        if let Err(refusal) = parsed.and_then(|line| apply(number, line)) {
            match refusal.verdict() {
                Verdict::Rejected => counts.rejected += 1,
                Verdict::PassedOver => counts.passed_over += 1,
            }
            refused(number, refusal.verdict(), &refusal);
        }
        Ok::<_, Infallible>(())
    });
    match done {
        Ok(read) => read.map(|()| counts),
        Err(never) => match never {},
    }
}

/// Reads a store log and applies its lines.
pub fn store_log(
    input: impl BufRead + Send,
    file: &str,
    report: &mut Report<'_>,
) -> io::Result<(State, LineCounts)> {
    let mut state = State::default();
    let parse = |line: Line<'_>| {
        let parsed = StoreLine::parse(content(line)?)?;
        check_store_line(&parsed)?;
        Ok(parsed)
    };
    let apply = |number, line| match state.apply(number, line)? {
        Applied::Done => Ok(()),
        Applied::NoEffect(why) => Err(Refusal::NoEffect(why)),
    };
    let counts =
        read_lines(input, parse, apply, |number, verdict, why| report.line(file, number, verdict, why))?;
    Ok((state, counts))
}

/// Judges the lines of a messages log.
pub fn messages_log(
    input: impl BufRead + Send,
    file: &str,
    state: &State,
    report: &mut Report<'_>,
) -> io::Result<LineCounts> {
    read_lines(
        input,
        message,
        |_, line| match state.queue(&line.recipient_id) {
            Some(Some(_)) => Ok(()),
            Some(None) => Err(Refusal::NoEffect(QUEUE_DELETED)),
            None => Err(Refused::NoQueue.into()),
        },
        |number, verdict, why| report.line(file, number, verdict, why),
    )
}

/// A line of a messages log, if it is imported where its queue is.
pub fn message(line: Line<'_>) -> Result<MessageLine, Refusal> {
    let parsed = MessageLine::parse(content(line)?)?;
    if let MessageContent::Sent { body, .. } = &parsed.content {
        check_length("a message body", body.len(), SEND_BODY_BYTES_MAX)?;
    }
    u64::try_from(parsed.received_secs).map_err(|_| Refusal::Time)?;
    Ok(parsed)
}

/// Reads a notifications log.
pub fn notifications_log(
    input: impl BufRead + Send,
    file: &str,
    state: &State,
    report: &mut Report<'_>,
) -> io::Result<(Notifications, LineCounts)> {
    let mut kept: HashMap<Id, VecDeque<(u64, NotificationLine)>> = HashMap::new();
    let mut dropped = Vec::new();
    let parse = |line: Line<'_>| {
        let parsed = NotificationLine::parse(content(line)?)?;
        check_length("metadata", parsed.meta.len(), NOTIFICATION_META_BYTES_MAX)?;
        u64::try_from(parsed.received_secs).map_err(|_| Refusal::Time)?;
        Ok(parsed)
    };
    let keep = |number, line: NotificationLine| {
        if state.queue_of_notifier(&line.notifier_id).is_none() {
            return Err(Refusal::NoEffect("no queue has this notifier"));
        }
        let notifications = kept.entry(line.notifier_id).or_default();
        if notifications.len() >= NOTIFICATIONS_MAX {
            dropped.extend(notifications.pop_front().map(|(number, _)| number));
        }
        notifications.push_back((number, line));
        Ok(())
    };
    let mut counts =
        read_lines(input, parse, keep, |number, verdict, why| report.line(file, number, verdict, why))?;
    for number in dropped {
        counts.passed_over += 1;
        let why = format!("the router keeps the newest {NOTIFICATIONS_MAX} notifications of a notifier");
        report.line(file, number, Verdict::PassedOver, &why);
    }
    let kept = kept.into_iter().map(|(id, lines)| (id, lines.into_iter().map(|(_, line)| line).collect()));
    Ok((kept.collect(), counts))
}

/// A day as the store has it: 0 stands for a day that is not known.
pub fn day(secs: i64) -> Result<u32, Refusal> {
    u32::try_from(secs.div_euclid(86_400)).map_err(|_| Refusal::Time)
}

fn check_length(what: &'static str, found: usize, most: usize) -> Result<(), Refusal> {
    if found <= most { Ok(()) } else { Err(Refusal::TooLong { what, found, most }) }
}

fn check_keys(count: usize) -> Result<(), Refusal> {
    if count <= RECIPIENT_KEYS_MAX { Ok(()) } else { Err(Refusal::TooManyKeys(count)) }
}

fn check_link(link: &Link) -> Result<(), Refusal> {
    check_length("link data", link.fixed.len() + link.user.len(), BODY_BYTES_MAX)
}

fn check_queue(queue: &QueueRecord) -> Result<(), Refusal> {
    check_keys(queue.recipient_keys.len())?;
    if let Some(link) = &queue.link {
        check_link(link)?;
    }
    queue.updated_secs.map_or(Ok(0), day).map(|_| ())
}

fn check_service(service: &ServiceRecord) -> Result<(), Refusal> {
    day(service.created_secs)?;
    check_length("a certificate chain", super::chain::encoded_bytes(&service.chain), BODY_BYTES_MAX)
}

/// What the store has no room for is refused with the line that says it.
fn check_store_line(line: &StoreLine) -> Result<(), Refusal> {
    match line {
        StoreLine::Service(service) => check_service(service),
        StoreLine::Queue { change, .. } => match change {
            Change::Create(queue) => check_queue(queue),
            Change::Link(link) => check_link(link),
            Change::Keys(keys) => check_keys(keys.len()),
            Change::Time(secs) => day(*secs).map(|_| ()),
            _ => Ok(()),
        },
    }
}
