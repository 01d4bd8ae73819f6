//! Threads that share out independent outputs.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// Bit of `Shared::gate` that says that a job takes helpers; the bits above it count the jobs, those below
/// count the helpers at work.
const OPEN: usize = 1 << 8;
const HELPERS: usize = OPEN - 1;
const JOB: usize = OPEN << 1;
const SPINS: usize = 4_000;
/// Most threads of a pool.
pub const THREADS: usize = 128;

struct Shared {
    gate: AtomicUsize,
    job: Mutex<Job>,
    next: AtomicUsize,
    stop: AtomicBool,
    failure: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct Job {
    task: Option<&'static Task<'static>>,
    count: usize,
}

/// A few threads that run numbered tasks. Tasks must write disjoint outputs and read nothing that another
/// task of the same call writes, so that neither the number of threads nor their speed can reach a result.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Arc<AtomicBool>, Thread, JoinHandle<()>)>,
}

impl Pool {
    /// `threads` counts the calling thread, at least 1 and at most `THREADS`. Threads that the system refuses to start
    /// are done without.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            gate: AtomicUsize::new(0),
            job: Mutex::new(Job { task: None, count: 0 }),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let mut workers = Vec::new();
        for _ in 1..threads.clamp(1, THREADS) {
            let asleep = Arc::new(AtomicBool::new(false));
            let (own, flag) = (Arc::clone(&shared), Arc::clone(&asleep));
            let started = std::thread::Builder::new().name("cupel-native".to_string()).spawn(move || work(&own, &flag));
            if let Ok(handle) = started {
                workers.push((asleep, handle.thread().clone(), handle));
            }
        }
        Self { shared, workers }
    }

    /// Threads that run tasks, with the calling one.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// As `run`, but alone on the calling thread unless `worth_waking` the others.
    pub fn run_if(&mut self, worth_waking: bool, count: usize, task: &(dyn Fn(usize) + Sync)) {
        if worth_waking {
            self.run(count, task);
        } else {
            (0..count).for_each(task);
        }
    }

    /// Runs `task(0..count)` and returns when all are done. A panic of a task is raised here.
    pub fn run(&mut self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || count < 2 {
            (0..count).for_each(task);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: the reference is only used by helpers that are counted in `gate`, and this function does not
        // return, not even by a panic, before that count is zero and the gate is shut.
        let task: &'static Task<'static> = unsafe { std::mem::transmute(task) };
        *shared.job.lock().unwrap_or_else(PoisonError::into_inner) = Job { task: Some(task), count };
        shared.next.store(0, Ordering::Relaxed);
        let ticket = (shared.gate.load(Ordering::Relaxed) & !(JOB - 1)).wrapping_add(JOB);
        shared.gate.store(ticket | OPEN, Ordering::SeqCst);
        for (asleep, thread, _) in &self.workers {
            if asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| drain(shared, task, count)));
        shared.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while shared.gate.load(Ordering::Acquire) & HELPERS != 0 {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        shared.job.lock().unwrap_or_else(PoisonError::into_inner).task = None;
        let helper = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(cause) = own.err().or(helper) {
            resume_unwind(cause);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (_, thread, handle) in self.workers.drain(..) {
            thread.unpark();
            let _ = handle.join();
        }
    }
}

fn drain(shared: &Shared, task: &Task<'_>, count: usize) {
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        if index >= count {
            return;
        }
        task(index);
    }
}

fn work(shared: &Shared, asleep: &AtomicBool) {
    let mut seen = 0;
    let mut spins = 0;
    loop {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let gate = shared.gate.load(Ordering::SeqCst);
        if gate & OPEN != 0 && gate & !(JOB - 1) != seen {
            if shared.gate.compare_exchange_weak(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            seen = gate & !(JOB - 1);
            let job = *shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(task) = job.task {
                if let Err(cause) = catch_unwind(AssertUnwindSafe(|| drain(shared, task, job.count))) {
                    *shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
                }
            }
            shared.gate.fetch_sub(1, Ordering::AcqRel);
            spins = 0;
            continue;
        }
        spins += 1;
        if spins < SPINS {
            std::hint::spin_loop();
            continue;
        }
        asleep.store(true, Ordering::SeqCst);
        let gate = shared.gate.load(Ordering::SeqCst);
        let work_waits = gate & OPEN != 0 && gate & !(JOB - 1) != seen;
        if !work_waits && !shared.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        asleep.store(false, Ordering::SeqCst);
        spins = 0;
    }
}

/// A slice that several tasks write at disjoint ranges.
#[derive(Clone, Copy)]
pub struct SharedMut<'a, T> {
    pointer: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: only `range` reaches the memory, and its contract forbids overlap.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { pointer: slice.as_mut_ptr(), length: slice.len(), borrow: PhantomData }
    }

    /// `length` elements from `start`; bounds are checked.
    ///
    /// # Safety
    /// No other live range of this slice may overlap, unless both are only read.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn range(&self, start: usize, length: usize) -> &'a mut [T] {
        assert!(start <= self.length && length <= self.length - start, "range outside of the shared slice");
        std::slice::from_raw_parts_mut(self.pointer.add(start), length)
    }
}

/// Buffers that tasks borrow while they run, so that no task allocates in the steady state.
#[derive(Default)]
pub struct Lockers<T> {
    free: Mutex<Vec<Box<T>>>,
}

impl<T: Default> Lockers<T> {
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut own = free().pop().unwrap_or_default();
        let result = work(&mut own);
        free().push(own);
        result
    }
}

/// The first `length` elements of a buffer that grows when needed; old contents stay.
pub fn grown<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    &mut buffer[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads);
            for round in 0..300 {
                let count = round % 17;
                let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                pool.run(count, &|index| {
                    hits[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(2);
        let outcome = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|index| assert!(index != 5))));
        assert!(outcome.is_err());
        pool.run(8, &|_| {});
    }
}
