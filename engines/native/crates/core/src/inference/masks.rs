//! Constraint masks, computed on a thread of their own while the network computes.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::thread::JoinHandle;

use super::request::Constraint;

/// A constraint on its way to the thread and back.
pub struct MaskJob {
    /// Whose it is.
    pub slot: usize,
    pub constraint: Box<dyn Constraint>,
    /// One bit a token, all set before.
    pub allowed: Vec<u32>,
    pub outcome: Result<(), String>,
}

/// The thread; started with the first constrained request.
#[derive(Default)]
pub struct Masks {
    running: Option<Running>,
    /// Jobs not yet taken back.
    out: usize,
    /// Those that were computed here, because the thread could not be started.
    own: Vec<MaskJob>,
}

struct Running {
    /// None while the thread is told to end.
    to: Option<Sender<MaskJob>>,
    from: Receiver<MaskJob>,
    thread: Option<JoinHandle<()>>,
}

impl Masks {
    /// Begins a mask of `vocabulary` tokens.
    pub fn start(&mut self, mut job: MaskJob, vocabulary: usize) {
        job.allowed.clear();
        job.allowed.resize(vocabulary.div_ceil(32), u32::MAX);
        if let (Some(last), rest @ 1..) = (job.allowed.last_mut(), vocabulary % 32) {
            *last = (1 << rest) - 1;
        }
        let running = self.running.get_or_insert_with(Running::new);
        let Some(to) = &running.to else { return };
        match to.send(job) {
            Ok(()) => self.out += 1,
            Err(back) => {
                let mut job = back.0;
                compute(&mut job);
                self.own.push(job);
            }
        }
    }

    /// Takes back every mask that was begun.
    pub fn finish(&mut self) -> Vec<MaskJob> {
        let count = std::mem::take(&mut self.out);
        let mut jobs = std::mem::take(&mut self.own);
        if let Some(running) = &self.running {
            jobs.extend((0..count).filter_map(|_| running.from.recv().ok()));
        }
        jobs
    }
}

impl Running {
    fn new() -> Self {
        let (to, jobs) = channel::<MaskJob>();
        let (back, from) = channel();
        let work = move || {
            while let Ok(mut job) = jobs.recv() {
                compute(&mut job);
                if back.send(job).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("cupel-masks".to_string()).spawn(work).ok();
        Self { to: Some(to), from, thread }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn compute(job: &mut MaskJob) {
    job.outcome = catch_unwind(AssertUnwindSafe(|| job.constraint.mask(&mut job.allowed)))
        .unwrap_or_else(|_| Err("the grammar engine failed".to_string()));
}
