//! What a shard counts. Written by the shard alone, read by anyone: plain loads and stores, no locked instruction.

use std::sync::atomic::{AtomicU64, Ordering};

use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_store::ServiceParty;

/// A counter or gauge with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, n: usize) {
        self.0.store(self.value().wrapping_add(n as u64), Ordering::Relaxed);
    }

    /// Of a gauge, which does not fall below 0.
    pub fn sub(&self, n: usize) {
        self.0.store(self.value().saturating_sub(n as u64), Ordering::Relaxed);
    }

    pub fn set(&self, n: usize) {
        self.0.store(n as u64, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets a maximum.
    pub fn raise(&self, n: usize) {
        if self.value() < n as u64 {
            self.set(n);
        }
    }
}

/// Connections of one listener of a shard.
#[derive(Debug, Default)]
pub struct ListenerCounts {
    pub accepted: Count,
    pub closed: Count,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one shard.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Count,)*
            /// Of services that receive, and of services that are notified.
            pub recipient_service: ServiceCounts,
            pub notifier_service: ServiceCounts,
        }

        impl Counters {
            /// All counters with their names, in the order of their definition.
            pub fn values(&self) -> Vec<(&'static str, u64)> {
                let mut values = vec![$((stringify!($name), self.$name.value()),)*];
                self.recipient_service.list(ServiceParty::Recipient, &mut values);
                self.notifier_service.list(ServiceParty::Notifier, &mut values);
                values
            }
        }
    };
}

macro_rules! service_counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What is counted of services of one kind. The names of its counters begin with that.
        #[derive(Debug, Default)]
        pub struct ServiceCounts {
            $($(#[$doc])* pub $name: Count,)*
        }

        impl ServiceCounts {
            fn list(&self, party: ServiceParty, values: &mut Vec<(&'static str, u64)>) {
                $(values.push((
                    match party {
                        ServiceParty::Recipient => concat!("recipient_service_", stringify!($name)),
                        ServiceParty::Notifier => concat!("notifier_service_", stringify!($name)),
                    },
                    self.$name.value(),
                ));)*
            }
        }
    };
}

service_counts! {
    /// Services that have ever been here, and queues that are theirs now.
    count,
    queues,
    /// Queues that became a service's by SUB or NSUB; for which it said so again; that were another service's; and that
    /// left, by SUB or NSUB of a client that is no service.
    queues_new,
    queues_repeated,
    queues_moved,
    queues_left,
    /// Sessions that began to subscribe with one queue, and queues subscribed one by one.
    subscribes,
    queues_subscribed,
    /// SUBS or NSUBS of a session that has subscribed to all, and sessions that were told that another one has.
    subs_repeated,
    subs_ended,
    /// SUBS or NSUBS of services that knew which queues they have, that have more or fewer than they thought, and as many
    /// but others. How many more and fewer.
    subs_right,
    subs_more,
    subs_fewer,
    subs_other,
    subs_more_queues,
    subs_fewer_queues,
}

counters! {
    // Now there.
    connections,
    handshakes,
    queues,
    messages,
    /// Memory that bodies of messages hold.
    message_bytes,
    subscriptions,
    /// Services that have ever been here.
    services,
    notifier_subscriptions,
    notifiers,
    links,
    /// Notifications that are kept for notifiers who are away.
    notifications,
    /// Queues through which messages went in this day, week and month (UTC, weeks begin on Monday), and of them those with
    /// messages that ask for a notification.
    active_day,
    active_week,
    active_month,
    active_notified_day,
    active_notified_week,
    active_notified_month,
    /// Blocks lent to connections.
    arena_lent,
    /// Messages of other shards that wait.
    mesh_depth,

    // Connections.
    connections_accepted,
    accept_errors,
    refused_connections,
    refused_address,
    refused_handshakes,
    handshakes_done,
    /// Connections that became a WebSocket.
    websocket_upgrades,
    /// Other requests, each of which ended its connection.
    http_requests,
    handshakes_failed_tls,
    handshakes_failed_identity,
    handshakes_failed_version,
    handshakes_failed_parse,
    /// Services whose certificate or role does not fit, or that are too many.
    handshakes_failed_service,
    closed_by_peer,
    closed_handshake_timeout,
    closed_block_timeout,
    closed_write_timeout,
    closed_inactive,
    /// A TLS record that does not open, or an alert.
    closed_bad_record,
    /// A WebSocket frame that breaks the rules, or a message that is no block.
    closed_bad_frame,
    /// A block whose tag or padding is wrong.
    closed_bad_block,
    closed_socket_error,
    closed_on_stop,

    // Blocks and commands.
    blocks_received,
    blocks_sent,
    writes,
    commands,
    queues_created,
    /// KEY, SKEY and LKEY that were answered with success.
    queues_secured,
    queues_deleted,
    /// Of these, queues without and with a sender's key.
    queues_deleted_new,
    queues_deleted_secured,
    /// Active queues that the operator blocked.
    queues_blocked,
    /// Of those deleted, invitations that nobody took.
    queues_expired,
    messages_received,
    messages_received_notified,
    messages_delivered,
    messages_acknowledged,
    /// Of these, other than quota messages; of those, read with GET; of those, ones that ask for a notification.
    messages_read,
    messages_read_got,
    messages_read_notified,
    messages_expired,
    sends_refused_auth,
    sends_refused_quota,
    sends_refused_large,
    sends_refused_blocked,
    notifications_made,
    notifications_sent,
    /// Turns in which notifications were sent.
    notifications_sent_batches,
    notifications_expired,
    notifiers_created,
    /// With the queue, by NEW.
    notifiers_created_new,
    notifiers_deleted,

    // Subscriptions. Batches are blocks with several commands of which the first is this.
    /// First subscriptions of a connection to a queue that had a message.
    subscribes_new,
    subscribes_repeated,
    subscribes_prohibited,
    subscribes_refused_auth,
    subscribe_batches,
    /// END and DELD sent.
    subscriptions_ended,
    delete_batches,
    notifier_subscribes_new,
    notifier_subscribes_repeated,
    notifier_subscribes_refused_auth,
    notifier_subscribe_batches,
    notifier_delete_batches,
    gets,
    /// The message was got before.
    gets_repeated,
    gets_empty,
    gets_refused_auth,
    gets_prohibited,

    // Times from a delivery to a subscriber until its acknowledgement, in whole seconds: each counter is that of one class.
    acks_within_1_s,
    acks_within_5_s,
    acks_within_10_s,
    acks_within_30_s,
    acks_within_60_s,
    acks_within_300_s,
    acks_within_1200_s,
    acks_within_3600_s,
    acks_over_3600_s,
    ack_secs,
    ack_secs_max,

    messages_refused_memory,
    /// Dropped because their body on the disk is not what was written.
    messages_damaged,
    queues_refused,
    services_refused,
    /// Queues whose waiting message was sent after SUBS, and those whose was sent before that came to it.
    service_queues_sent,
    service_queues_sent_before,
    /// Bodies that were left to the log, and read back.
    bodies_evicted,
    bodies_fetched,

    // Forwarded commands. Of sessions with relays and of commands, in the words of the reference: asked for, done, and
    // failed because the relay was not reached, is too old, or for another reason. The own ones are those of the
    // operator's domains, counted in both.
    /// Sessions with relays that are open.
    relays,
    relay_requests,
    relay_successes,
    relay_errors_connect,
    relay_errors_compat,
    relay_errors_other,
    own_relay_requests,
    own_relay_successes,
    own_relay_errors_connect,
    own_relay_errors_compat,
    own_relay_errors_other,
    forward_requests,
    forward_successes,
    forward_errors_connect,
    forward_errors_compat,
    forward_errors_other,
    own_forward_requests,
    own_forward_successes,
    own_forward_errors_connect,
    own_forward_errors_compat,
    own_forward_errors_other,
    /// Connections to relays that were begun, and sessions that ended.
    relays_dialed,
    relays_ended,
    /// Commands that were not forwarded because too many wait for their relay.
    forwards_refused,
    /// From proxies, to queues of this router.
    forwards_received,

    // The log.
    log_commits,
    /// Sum and maximum of the times from handing a commit to the disk until it was there.
    log_commit_us,
    log_commit_us_max,
    log_appended_bytes,
    log_written_bytes,
    log_image_bytes,
    log_punched_bytes,
    /// Rounds of renewing images and erasing.
    log_rounds,
    /// Changes that were refused for lack of space on the disk, and those that had to wait for it.
    refused_no_space,
    log_busy,
    /// Steps of the log, by the time for which the shard did nothing else.
    log_steps_within_100_us,
    log_steps_within_1_ms,
    log_steps_within_5_ms,
    log_steps_over_5_ms,
    log_step_us,
    log_step_us_max,

    // Errors answered.
    errors_block,
    errors_session,
    errors_command,
    errors_prohibited,
    errors_auth,
    errors_quota,
    errors_no_msg,
    errors_large_msg,
    errors_other,

    // How late timers fire: the time that other tasks take at once. Looked at twice a second.
    timer_checks,
    timer_late_us,
    timer_late_us_max,

    // Waiting for room.
    arena_refused,
    mesh_full,
    mesh_messages,
    /// Of these, by the time from sending to receiving.
    mesh_within_100_us,
    mesh_within_300_us,
    mesh_within_1_ms,
    mesh_over_1_ms,
    /// Sum of the times from sending to receiving over the mesh.
    mesh_latency_us,
    /// The longest such time since the start.
    mesh_latency_us_max,
}

impl Counters {
    pub fn service(&self, party: ServiceParty) -> &ServiceCounts {
        match party {
            ServiceParty::Recipient => &self.recipient_service,
            ServiceParty::Notifier => &self.notifier_service,
        }
    }

    /// Counts an `ERR` that is answered.
    pub fn error(&self, error: &ErrorType) {
        match error {
            ErrorType::Block => &self.errors_block,
            ErrorType::Session => &self.errors_session,
            ErrorType::Cmd(CommandError::Prohibited) => &self.errors_prohibited,
            ErrorType::Cmd(_) => &self.errors_command,
            ErrorType::Auth => &self.errors_auth,
            ErrorType::Quota => &self.errors_quota,
            ErrorType::NoMsg => &self.errors_no_msg,
            ErrorType::LargeMsg => &self.errors_large_msg,
            _ => &self.errors_other,
        }
        .add(1);
    }
}
