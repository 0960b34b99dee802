//! Tasks, timers and other threads.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::AsyncReadExt;
use futures_lite::future::{or, poll_fn, poll_once, yield_now};

use super::super::{Bell, Ear, File, Opening, Stream, core, run_on, sleep, spawn_blocking, spawn_local};
use super::{ring, run};

type Log = Rc<RefCell<Vec<&'static str>>>;

/// Notes that it was dropped.
struct Noting(Log, &'static str);

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.borrow_mut().push(self.1);
    }
}

/// Spawns another task when it is dropped.
struct Spawns(Option<Noting>);
impl Drop for Spawns {
    fn drop(&mut self) {
        let inner = self.0.take();
        spawn_local(async move {
            let _inner = inner;
            sleep(Duration::from_secs(3600)).await;
        })
        .detach();
    }
}

#[test]
pub fn a_task_runs_at_once_until_it_waits_and_then_takes_turns() {
    let log = run(async {
        let log = Log::default();
        let mut tasks = Vec::new();
        for (first, second) in [("a1", "a2"), ("b1", "b2")] {
            let own = Rc::clone(&log);
            tasks.push(spawn_local(async move {
                own.borrow_mut().push(first);
                yield_now().await;
                own.borrow_mut().push(second);
            }));
            log.borrow_mut().push("spawned");
        }
        for task in tasks {
            task.await;
        }
        log.take()
    });
    assert_eq!(log, ["a1", "spawned", "b1", "spawned", "a2", "b2"]);
}

#[test]
pub fn a_dropped_task_is_cancelled_and_a_detached_one_is_not() {
    let log = run(async {
        let log = Log::default();
        let waits = |name| {
            let noting = Noting(Rc::clone(&log), name);
            async move {
                sleep(Duration::from_millis(1)).await;
                noting.0.borrow_mut().push("done");
                std::mem::forget(noting);
            }
        };
        spawn_local(waits("detached")).detach();
        drop(spawn_local(waits("dropped")));
        spawn_local(waits("cancelled")).cancel().await;
        sleep(Duration::from_millis(20)).await;
        let mut log = log.take();
        log.sort_unstable();
        log
    });
    assert_eq!(log, ["cancelled", "done", "dropped"]);
}

#[test]
pub fn what_is_left_at_the_end_is_dropped() {
    let log = Log::default();
    let given = Rc::clone(&log);
    run(async move {
        let forever = Noting(Rc::clone(&given), "forever");
        spawn_local(async move {
            let _forever = forever;
            std::future::pending::<()>().await;
        })
        .detach();
        let inner = Noting(Rc::clone(&given), "spawned while dropping");
        let spawns = Spawns(Some(inner));
        spawn_local(async move {
            let _spawns = spawns;
            sleep(Duration::from_secs(3600)).await;
        })
        .detach();
    });
    let mut log = log.take();
    log.sort_unstable();
    assert_eq!(log, ["forever", "spawned while dropping"]);
}

#[test]
pub fn a_panic_of_a_task_ends_the_executor_and_the_thread_can_run_another() {
    let log = Log::default();
    let given = Rc::clone(&log);
    let result = catch_unwind(AssertUnwindSafe(|| {
        run_on(ring(), async move {
            let other = Noting(given, "other");
            spawn_local(async move {
                let _other = other;
                std::future::pending::<()>().await;
            })
            .detach();
            spawn_local(async {
                yield_now().await;
                panic!("on purpose");
            })
            .detach();
            sleep(Duration::from_secs(60)).await;
        })
    }));
    assert!(result.is_err());
    assert_eq!(log.take(), ["other"]);
    assert_eq!(run(async { spawn_local(async { 5 }).await }), 5);
}

#[test]
pub fn sleeps_end_in_the_order_of_their_times() {
    let ended = run(async {
        let ended = Rc::new(RefCell::new(Vec::new()));
        let began = Instant::now();
        let tasks: Vec<_> = [30_u64, 10, 20, 0, 10]
            .into_iter()
            .map(|millis| {
                let ended = Rc::clone(&ended);
                spawn_local(async move {
                    sleep(Duration::from_millis(millis)).await;
                    assert!(began.elapsed() >= Duration::from_millis(millis));
                    ended.borrow_mut().push(millis);
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        ended.take()
    });
    assert_eq!(ended, [0, 10, 10, 20, 30]);
}

#[test]
pub fn a_sleep_that_is_given_up_wakes_nobody() {
    let polls = run(async {
        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        let task = spawn_local(async move {
            let mut given_up = Some(sleep(Duration::from_millis(5)));
            poll_fn(|cx| {
                counted.set(counted.get() + 1);
                if let Some(mut sleep) = given_up.take() {
                    let _ = std::pin::Pin::new(&mut sleep).poll(cx);
                }
                Poll::<()>::Pending
            })
            .await;
        });
        sleep(Duration::from_millis(30)).await;
        task.cancel().await;
        polls.get()
    });
    assert_eq!(polls, 1);
}

/// Tasks that are always ready must not keep events and timers from the others.
#[test]
pub fn busy_tasks_do_not_hold_up_timers_and_other_threads() {
    run(async {
        let stops = Rc::new(Cell::new(false));
        let busy: Vec<_> = (0..50)
            .map(|_| {
                let stops = Rc::clone(&stops);
                spawn_local(async move {
                    while !stops.get() {
                        yield_now().await;
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            sleep(Duration::from_millis(1)).await;
            spawn_blocking(|| ()).await.unwrap();
        }
        stops.set(true);
        for task in busy {
            task.await;
        }
    });
}

#[test]
pub fn what_blocks_is_called_elsewhere_and_in_order() {
    let (here, calls) = run(async {
        let calls: Vec<_> =
            (0..100).map(|n| spawn_local(spawn_blocking(move || (n, std::thread::current().id())))).collect();
        let mut results = Vec::new();
        for call in calls {
            results.push(call.await.unwrap());
        }
        (std::thread::current().id(), results)
    });
    assert!(calls.iter().map(|(n, _)| *n).eq(0..100));
    assert!(calls.iter().all(|(_, thread)| *thread == calls[0].1 && *thread != here));
}

/// Each number is waited for and set by another thread: a wake that is lost hangs.
#[test]
pub fn no_wake_of_another_thread_is_lost() {
    const COUNT: u32 = 20_000;
    run(async {
        let (give, take) = std::sync::mpsc::channel::<(u32, Waker)>();
        let reached = Arc::new(AtomicU32::new(0));
        let sets = Arc::clone(&reached);
        let other = std::thread::spawn(move || {
            for (number, waker) in take {
                if number % 3 == 0 {
                    std::thread::yield_now();
                }
                sets.store(number, Ordering::Release);
                waker.wake();
            }
        });
        for number in 1..=COUNT {
            let mut asked = false;
            poll_fn(|cx| {
                if reached.load(Ordering::Acquire) == number {
                    return Poll::Ready(());
                }
                if !std::mem::replace(&mut asked, true) {
                    give.send((number, cx.waker().clone())).unwrap();
                }
                Poll::Pending
            })
            .await;
        }
        drop(give);
        other.join().unwrap();
    });
}

#[test]
pub fn every_ring_of_a_bell_is_heard() {
    const COUNT: u32 = 20_000;
    run(async {
        let bell = Arc::new(Bell::new().unwrap());
        let (rung, heard) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        // One that was rung before anybody listened is heard as well.
        rung.store(1, Ordering::Release);
        bell.ring();
        let other = std::thread::spawn({
            let (bell, rung, heard) = (Arc::clone(&bell), Arc::clone(&rung), Arc::clone(&heard));
            move || {
                for number in 2..=COUNT {
                    while heard.load(Ordering::Acquire) + 1 < number {
                        std::thread::yield_now();
                    }
                    rung.store(number, Ordering::Release);
                    bell.ring();
                }
            }
        });
        let ear = Ear::new(bell);
        while heard.load(Ordering::Acquire) < COUNT {
            ear.listen().await;
            heard.store(rung.load(Ordering::Acquire), Ordering::Release);
        }
        other.join().unwrap();
        // All are heard, so this one waits.
        let waits = async {
            ear.listen().await;
            false
        };
        let timer = async {
            sleep(Duration::from_millis(10)).await;
            true
        };
        assert!(or(waits, timer).await);
    });
}

/// A stream with a byte to receive.
fn stream_with_a_byte() -> (Stream, UnixStream) {
    let (one, mut other) = UnixStream::pair().unwrap();
    other.write_all(&[1]).unwrap();
    (Stream::new(one), other)
}

#[test]
pub fn the_kernel_is_asked_between_two_turns_of_a_busy_task() {
    run(async {
        let (mut stream, _peer) = stream_with_a_byte();
        let read = spawn_local(async move { stream.read_exact(&mut [0]).await.unwrap() });
        let mut turns = 0;
        while !read.is_finished() {
            yield_now().await;
            turns += 1;
        }
        // One to begin the watch, one to hear of it, and one to run.
        assert!(turns < 10, "{turns} turns");
    });
}

#[test]
pub fn a_long_turn_is_cut_for_the_kernel() {
    let log = run(async {
        let log = Log::default();
        let (mut stream, _peer) = stream_with_a_byte();
        let own = Rc::clone(&log);
        let mut tasks = vec![spawn_local(async move {
            stream.read_exact(&mut [0]).await.unwrap();
            own.borrow_mut().push("news");
        })];
        for _ in 0..12 {
            let own = Rc::clone(&log);
            tasks.push(spawn_local(async move {
                for part in ["first", "second"] {
                    yield_now().await;
                    std::thread::sleep(Duration::from_millis(1));
                    own.borrow_mut().push(part);
                }
            }));
        }
        for task in tasks {
            task.await;
        }
        log.take()
    });
    assert_eq!(log.len(), 25);
    assert_ne!(log.last(), Some(&"news"), "{log:?}");
}

#[test]
pub fn sleeps_that_are_over_end_in_the_same_turn() {
    let turns = run(async {
        let turn = Rc::new(Cell::new(0));
        let sleeps: Vec<_> = (0..10)
            .map(|_| {
                let turn = Rc::clone(&turn);
                spawn_local(async move {
                    sleep(Duration::ZERO).await;
                    turn.get()
                })
            })
            .collect();
        while !sleeps.iter().all(super::super::Task::is_finished) {
            turn.set(turn.get() + 1);
            yield_now().await;
        }
        let mut turns = Vec::new();
        for sleep in sleeps {
            turns.push(sleep.await);
        }
        turns
    });
    assert_eq!(turns, [turns[0]; 10]);
}

/// What one task has begun to wait for another may go on waiting for.
#[test]
pub fn who_waits_last_is_woken() {
    run(async {
        let (one, mut other) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(one);
        let mut slept = sleep(Duration::from_millis(5));
        let mut opening = Box::pin(File::open(Path::new("/dev/null"), Opening::Read));
        assert!(poll_once(stream.read(&mut [0])).await.is_none());
        assert!(poll_once(&mut slept).await.is_none());
        assert!(poll_once(&mut opening).await.is_none());
        let tasks = [
            spawn_local(async move { stream.read_exact(&mut [0]).await.unwrap() }),
            spawn_local(slept),
            spawn_local(async move { drop(opening.await) }),
        ];
        other.write_all(&[1]).unwrap();
        for task in tasks {
            task.await;
        }
    });
}

#[test]
pub fn tasks_that_have_ended_are_forgotten() {
    run(async {
        let before = core().tasks.count();
        let waits = spawn_local(std::future::pending::<()>());
        spawn_local(yield_now()).await;
        spawn_local(async {}).detach();
        assert_eq!(core().tasks.count(), before + 1);
        waits.cancel().await;
        assert_eq!(core().tasks.count(), before);
    });
}

#[test]
pub fn a_task_that_another_thread_has_just_woken_is_dropped_at_the_end() {
    let log = Log::default();
    let noting = Noting(Rc::clone(&log), "woken");
    run(async move {
        let slot = Rc::new(Cell::new(None));
        let given = Rc::clone(&slot);
        spawn_local(poll_fn(move |cx| {
            let _noting = &noting;
            given.set(Some(cx.waker().clone()));
            Poll::<()>::Pending
        }))
        .detach();
        let waker = slot.take().unwrap();
        std::thread::spawn(move || waker.wake()).join().unwrap();
    });
    assert_eq!(log.take(), ["woken"]);
}

/// Neither what its tasks share nor its thread, whatever was under way.
#[test]
pub fn nothing_of_an_executor_is_left() {
    /// Tells when its thread ends.
    struct Telling(std::sync::mpsc::Sender<()>);
    impl Drop for Telling {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    thread_local! {
        static TELLING: RefCell<Option<Telling>> = const { RefCell::new(None) };
    }
    let (give, ended) = std::sync::mpsc::channel();
    let core = run(async move {
        spawn_blocking(|| TELLING.set(Some(Telling(give)))).await.unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(one);
        spawn_local(async move { stream.read(&mut [0]).await }).detach();
        spawn_local(sleep(Duration::from_secs(3600))).detach();
        spawn_local(File::open(Path::new("/dev/null"), Opening::Read)).detach();
        Rc::downgrade(&core())
    });
    assert!(core.upgrade().is_none());
    assert!(catch_unwind(|| sleep(Duration::ZERO)).is_err());
    ended.recv_timeout(Duration::from_secs(60)).unwrap();
}

/// Wakers outlive their executor, on this thread and on others.
#[test]
pub fn wakers_of_an_executor_that_has_ended_do_nothing() {
    let slot = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&slot);
    run(async move {
        spawn_local(poll_fn(move |cx| {
            *kept.borrow_mut() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }))
        .detach();
    });
    let waker = slot.take().unwrap();
    waker.wake_by_ref();
    run(async move {
        waker.wake_by_ref();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        sleep(Duration::from_millis(1)).await;
    });
}
