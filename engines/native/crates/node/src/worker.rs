use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{channel, Sender};

use crate::fault::Fault;
use crate::reply::{Callback, Reply, Responder};

enum Command<T> {
    Work(Box<dyn FnOnce(&mut T) + Send>),
    Close(Responder),
}

/// A thread that owns a `T`, opened on it, and works off one job after the other. A panic ends the thread: what is
/// queued then answers that it is closed.
pub struct Worker<T> {
    sender: Sender<Command<T>>,
}

impl<T: 'static> Worker<T> {
    pub fn start(open: impl FnOnce() -> Result<T, Fault> + Send + 'static, callback: Callback) -> Result<Self, Fault> {
        let (sender, receiver) = channel::<Command<T>>();
        let responder = Responder::new(callback);
        std::thread::Builder::new()
            .name("cupel-engine".to_string())
            .stack_size(16 << 20)
            .spawn(move || {
                let _ = catch_unwind(AssertUnwindSafe(move || {
                    let mut state = match open() {
                        Ok(state) => state,
                        Err(fault) => return responder.finish(Err(fault)),
                    };
                    responder.finish(Ok(Reply::done()));
                    while let Ok(command) = receiver.recv() {
                        match command {
                            Command::Work(job) => job(&mut state),
                            Command::Close(responder) => {
                                drop(state);
                                return responder.finish(Ok(Reply::done()));
                            }
                        }
                    }
                }));
            })
            .map_err(|error| Fault::new("CUPEL_NATIVE_INTERNAL", format!("no thread could be started: {error}")))?;
        Ok(Self { sender })
    }

    /// Queues a job whose end is told through `callback`.
    pub fn submit(
        &self,
        callback: Callback,
        job: impl FnOnce(&mut T, &Responder) -> Result<Reply, Fault> + Send + 'static,
    ) {
        let responder = Responder::new(callback);
        // If the thread has ended, the job is dropped here and its responder answers.
        let _ = self.sender.send(Command::Work(Box::new(move |state| {
            let result = job(state, &responder);
            responder.finish(result);
        })));
    }

    /// Runs a short job and waits for it.
    pub fn wait<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut T) -> Result<R, Fault> + Send + 'static,
    ) -> Result<R, Fault> {
        let (sender, receiver) = channel();
        let _ = self.sender.send(Command::Work(Box::new(move |state| {
            let _ = sender.send(job(state));
        })));
        receiver.recv().unwrap_or_else(|_| Err(Fault::closed()))
    }

    /// Frees the state after the jobs that are queued.
    pub fn close(&self, callback: Callback) {
        let _ = self.sender.send(Command::Close(Responder::new(callback)));
    }
}
