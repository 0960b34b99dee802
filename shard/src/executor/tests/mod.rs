//! What the executor promises. Times are deadlines against hanging, or relations between two sleeps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod files;
mod sockets;
mod tasks;

use std::cell::Cell;
use std::time::Duration;

use futures_lite::future::or;

use super::ring::Ring;
use super::{RingSize, run_on, sleep};

thread_local! {
    /// Rings of this thread are as older kernels have them.
    static OLDER: Cell<bool> = const { Cell::new(false) };
}

fn ring() -> Ring {
    if OLDER.get() { Ring::older(RingSize::SMALL) } else { Ring::new(RingSize::SMALL) }.unwrap()
}

/// Runs a future on a small ring; one that hangs fails.
fn run<F>(future: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    let limited = async {
        let late = async {
            sleep(Duration::from_secs(60)).await;
            panic!("it hangs");
        };
        or(future, late).await
    };
    run_on(ring(), limited).unwrap()
}

/// How many requests are under way.
fn requests() -> usize {
    super::core().ring.requests.borrow().len()
}

/// Waits for something that the kernel does.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// All of them again.
#[test]
fn on_kernels_before_6_1() {
    OLDER.set(true);
    files::blocks_are_written_read_punched_and_synced();
    files::what_cannot_be_done_is_an_error_and_gives_the_buffer_back();
    files::a_write_that_was_given_up_is_done_before_the_executor_ends();
    files::an_opening_that_was_given_up_leaves_no_descriptor();
    files::an_opening_that_was_given_up_after_its_end_leaves_no_descriptor();
    files::an_operation_that_was_given_up_is_done_to_its_own_file();
    files::what_must_be_durable_is_opened_so();
    sockets::all_bytes_arrive_in_order_however_full_the_sockets_are();
    sockets::an_end_behind_the_last_bytes_is_not_missed();
    sockets::an_end_that_comes_with_the_last_bytes_is_not_missed();
    sockets::a_socket_that_was_drained_is_not_tried_before_its_next_event();
    sockets::a_socket_that_is_given_up_is_watched_no_more_and_wakes_nobody();
    sockets::a_socket_that_has_room_again_is_not_watched_for_it();
    sockets::a_peer_that_sends_no_more_and_reads_nothing_costs_nothing();
    sockets::a_reset_is_an_error_for_both_directions();
    sockets::more_events_than_the_ring_has_places_are_all_told();
    sockets::connections_that_wait_are_all_accepted();
    sockets::who_gives_up_accepting_has_accepted_nobody();
    sockets::sockets_are_closed_when_the_executor_has_ended();
    tasks::a_task_runs_at_once_until_it_waits_and_then_takes_turns();
    tasks::a_dropped_task_is_cancelled_and_a_detached_one_is_not();
    tasks::what_is_left_at_the_end_is_dropped();
    tasks::a_panic_of_a_task_ends_the_executor_and_the_thread_can_run_another();
    tasks::sleeps_end_in_the_order_of_their_times();
    tasks::a_sleep_that_is_given_up_wakes_nobody();
    tasks::busy_tasks_do_not_hold_up_timers_and_other_threads();
    tasks::what_blocks_is_called_elsewhere_and_in_order();
    tasks::no_wake_of_another_thread_is_lost();
    tasks::every_ring_of_a_bell_is_heard();
    tasks::the_kernel_is_asked_between_two_turns_of_a_busy_task();
    tasks::a_long_turn_is_cut_for_the_kernel();
    tasks::sleeps_that_are_over_end_in_the_same_turn();
    tasks::who_waits_last_is_woken();
    tasks::tasks_that_have_ended_are_forgotten();
    tasks::a_task_that_another_thread_has_just_woken_is_dropped_at_the_end();
    tasks::nothing_of_an_executor_is_left();
    tasks::wakers_of_an_executor_that_has_ended_do_nothing();
}
