//! The state of a shard and its log, without service and disk.

use ringpost_protocol::command::{MsgFlags, QueueMode};
use ringpost_protocol::crypto::authorization::AuthPrivateKey;
use ringpost_store::{BodyPlace, Content, Entry, Log, Message, NewQueue, Party, Record, Store};

use super::Step;
use crate::Outcome;
use crate::material::{BODY_BYTES, NOW_SECS, id};
use crate::world::{drive, hasher, new_log};

/// Enough that neither store nor indexes lie in a cache of the processor.
const QUEUES: u64 = 20_000;

fn new_queue(number: u64) -> NewQueue {
    NewQueue {
        recipient_id: id(number, 1),
        sender_id: id(number, 2),
        recipient_key: AuthPrivateKey::x25519([1; 32]).public(),
        delivery_secret: [1; 32],
        mode: Some(QueueMode::Messaging),
    }
}

pub fn store() -> Outcome<Step> {
    let mut store: Store<u64> = Store::new(hasher());
    let template = new_queue(0);
    for number in 0..QUEUES {
        let (recipient_id, sender_id) = (id(number, 1), id(number, 2));
        store
            .create(NewQueue { recipient_id, sender_id, ..template.clone() }, 1)
            .map_err(|_| "an ID twice")?;
    }
    let mut number = 0;
    Ok(Box::new(move |meter| {
        number = (number + 7_919) % QUEUES;
        let (sender_id, recipient_id) = (id(number, 2), id(number, 1));
        let content = Content::Sent { flags: MsgFlags::default(), body: number };
        let message = Message { id: [9; 24], received_secs: 1, content };
        let taken = meter.run(|| {
            let queue = store.find(Party::Sender, &sender_id)?;
            store.write(queue, message, 128)?;
            let queue = store.find(Party::Recipient, &recipient_id)?;
            store.take_message(queue, &[9; 24])
        });
        taken.map(drop).ok_or_else(|| "no message".into())
    }))
}

pub fn log() -> Outcome<Step> {
    let (mut log, mut store) = new_log::<BodyPlace>()?;
    let queue = id(1, 1);
    let hash = hasher().hash(&queue);
    let mut places = Vec::new();
    log.append(&[Entry { hash, record: Record::Create { new: new_queue(1), today: 1 } }], &mut places)?;
    store.create(new_queue(1), 1).map_err(|_| "an ID twice")?;
    let body = vec![7; BODY_BYTES];
    let mut now_ms = 0;
    Ok(Box::new(move |meter| {
        now_ms += 1;
        let message = id(now_ms, 3);
        places.clear();
        meter.run(|| {
            let flags = MsgFlags::default();
            let record =
                Record::Message { queue, id: message, received_secs: NOW_SECS, flags, body: &body[..] };
            log.append(&[Entry { hash, record }], &mut places)?;
            drive(&mut log, &store, now_ms);
            log.append(&[Entry { hash, record: Record::Take { queue, id: message } }], &mut places)?;
            for place in &places {
                log.erase(*place);
            }
            drive(&mut log, &store, now_ms);
            Ok(())
        })
    }))
}
