//! Faults to put into the service, to see that the simulation finds them. Without the feature `simulation` there are none.

use ringpost_store::{BodyPlace, Content, Entry, Log, QueueIx, Record};

use super::{ConnRef, Service};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// Outputs leave at once, whatever the log has.
    TellBeforeDurable,
    /// An output waits for all records before it but the last.
    HoldTooLittle,
    /// Makes a change although the log did not take its record.
    IgnoreRefusal,
    /// A queue is made, and nothing appended.
    CreateWithoutRecord,
    /// A queue is secured, and nothing appended.
    SecureWithoutRecord,
    /// A queue is suspended, and nothing appended.
    SuspendWithoutRecord,
    /// A queue is deleted, and nothing appended.
    DeleteWithoutRecord,
    /// Messages expire, and nothing is appended.
    ExpireWithoutRecord,
    /// Messages expire that are not old enough.
    ExpireYoung,
    /// An acknowledged message leaves its queue, and nothing is appended.
    TakeWithoutRecord,
    /// Bodies that ended stay in the log.
    ForgetErase,
    /// Has a body erased before the record of its end is appended.
    EraseBeforeTake,
    /// Leaves bodies to the log that are not written yet.
    EvictTooEarly,
    /// Gives what was read to the first message, without looking whether it is the one.
    FetchedToFirst,
    /// Takes what was read as it comes.
    IgnoreBodyCrc,
    /// Drops a message for the first read that went wrong.
    ReadOnce,
    /// Keeps a message whose body is damaged.
    KeepDamaged,
    /// Who waits for a body is not told when it is there.
    ForgetWaiters,
    /// Who waits for the log is not told when it has moved.
    ForgetLogMoved,
    /// Outputs that wait for the log are dropped when a connection ends.
    DropHeld,
    /// Delivers again when an acknowledgement was put off.
    DeliverAgain,
    /// An acknowledgement takes the first message, whichever it is.
    TakeAnyFirst,
    /// Asks for another quota than it writes with.
    OtherQuota,
    /// A message that waits for credit does not stand in its connection's line.
    ForgetLine,
    /// Delivers without looking at the credit.
    IgnoreCredit,
    /// A delivery that found no block is not tried again.
    ForgetStarved,
    /// A batch that waits for credit does not go on when there is some.
    ForgetBatch,
    /// A batch does not wait for those before it.
    Overtake,
    /// Subscribing again does not deliver again.
    KeepDelivered,
    /// A former subscriber is not told that it is none any more.
    ForgetEnd,
    /// Where there is no key to check against, nothing is checked.
    NoDummyCheck,
}

impl<L> Service<L> {
    /// Puts a fault into the service.
    #[cfg(feature = "simulation")]
    pub fn mutate(&mut self, mutation: Mutation) {
        self.mutation = Some(mutation);
    }

    #[cfg(feature = "simulation")]
    pub(super) fn mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    #[cfg(not(feature = "simulation"))]
    #[allow(clippy::unused_self)]
    pub(super) const fn mutated(&self, _: Mutation) -> bool {
        false
    }

    /// Whether the record of a change is left out.
    pub(super) fn forgets_record(&self, entries: &[Entry<'_>]) -> bool {
        entries.iter().any(|entry| match &entry.record {
            Record::Create { .. } => self.mutated(Mutation::CreateWithoutRecord),
            Record::Secure { .. } => self.mutated(Mutation::SecureWithoutRecord),
            Record::Suspend { .. } => self.mutated(Mutation::SuspendWithoutRecord),
            Record::Delete { .. } => self.mutated(Mutation::DeleteWithoutRecord),
            Record::Expire { .. } => self.mutated(Mutation::ExpireWithoutRecord),
            Record::Take { .. } => self.mutated(Mutation::TakeWithoutRecord),
            _ => false,
        })
    }

    /// Makes up the places of bodies that were not appended.
    pub(super) fn forge_places(&mut self, entries: &[Entry<'_>]) {
        let bodies = entries.iter().filter(|entry| matches!(entry.record, Record::Message { .. }));
        self.places.extend(bodies.map(|_| BodyPlace::NOWHERE));
    }
}

impl<L: Log> Service<L> {
    /// What is wrong with the counts of deliveries. It would show nowhere else.
    #[cfg(feature = "simulation")]
    pub fn miscounted(&self) -> Option<String> {
        self.subscribers.miscounted()
    }

    pub(super) fn erase_first(&mut self, queue: QueueIx) {
        let Some(first) = self.store.messages_mut(queue).next() else { return };
        if let Content::Sent { body, .. } = &mut first.content {
            self.log.erase(std::mem::replace(&mut body.place, BodyPlace::NOWHERE));
        }
    }

    pub(super) fn deliver_again(&mut self, queue: QueueIx, conn: ConnRef) {
        if self.subscribers.of(queue, conn).is_some() {
            self.subscribers.undeliver(queue, conn);
            self.to_deliver.push(queue);
        }
    }
}
