//! What has no asynchronous form: one thread beside each executor, which starts when it is first needed.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc;

use async_task::Runnable;

/// The thread, by what it is given to do. It ends with the executor.
#[derive(Debug, Default)]
pub struct Helper {
    jobs: RefCell<Option<mpsc::Sender<Runnable>>>,
}

impl Helper {
    fn jobs(&self) -> io::Result<mpsc::Sender<Runnable>> {
        let mut jobs = self.jobs.borrow_mut();
        if let Some(jobs) = &*jobs {
            return Ok(jobs.clone());
        }
        let (give, take) = mpsc::channel::<Runnable>();
        std::thread::Builder::new().name("blocking".to_owned()).spawn(move || {
            for job in take {
                job.run();
            }
        })?;
        *jobs = Some(give.clone());
        Ok(give)
    }
}

/// Calls a function on the thread that may block, one after the other.
pub async fn spawn_blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let jobs = super::core().helper.jobs()?;
    let schedule = move |job| {
        // The thread takes jobs for as long as somebody can give it one.
        let _ = jobs.send(job);
    };
    let (job, called) = async_task::spawn(async move { call() }, schedule);
    job.schedule();
    Ok(called.await)
}
