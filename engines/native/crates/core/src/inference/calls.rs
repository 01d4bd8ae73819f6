use std::sync::atomic::{AtomicBool, Ordering};

use cupel_attention::PAGE;
use cupel_files::{Error, Result, CANCELLED, IO};

use super::engine::Engine;
use super::forward::Chunk;
use super::request::{Event, GenerateRequest, Generated, ScoreItem, Scored};

/// Whole calls, for callers that have nothing else to do meanwhile.
impl Engine {
    /// Completes requests; `on_done` gets the place of a request in the call and its completion as it ends.
    ///
    /// # Errors
    /// Only when cancelled. A bad request ends with `Finish::Error`.
    pub fn generate(
        &mut self,
        requests: Vec<GenerateRequest>,
        on_done: &mut dyn FnMut(usize, Generated),
        cancelled: &AtomicBool,
    ) -> Result<()> {
        let ids: Vec<u64> = requests.into_iter().map(|request| self.submit(request)).collect();
        let mut left = ids.len();
        let mut events = Vec::new();
        while left > 0 {
            if cancelled.load(Ordering::Relaxed) {
                self.cancel_all(&ids.iter().copied().collect());
                return Err(Error::new(CANCELLED, "cancelled by the caller"));
            }
            self.step(&mut events);
            for event in events.drain(..) {
                if let Event::Generated(id, generated) = event {
                    if let Ok(index) = ids.binary_search(&id) {
                        left -= 1;
                        on_done(index, generated);
                    }
                }
            }
        }
        Ok(())
    }

    /// Log-probabilities of continuations, in the order of the items.
    ///
    /// # Errors
    /// Cancelled, or the first bad item.
    pub fn score(&mut self, items: Vec<ScoreItem>, cancelled: &AtomicBool) -> Result<Vec<Scored>> {
        let wanted = self.submit_score(items);
        let mut events = Vec::new();
        loop {
            if cancelled.load(Ordering::Relaxed) {
                self.cancel(wanted);
                return Err(Error::new(CANCELLED, "cancelled by the caller"));
            }
            self.step(&mut events);
            for event in events.drain(..) {
                if let Event::Scored(id, outcome) = event {
                    if id == wanted {
                        return outcome;
                    }
                }
            }
        }
    }

    /// Calls `with(position, logits)` for every position of `tokens`, on any thread.
    ///
    /// # Errors
    /// Tokens that are none, too many, or out of range; no room in the KV cache.
    pub fn distributions(
        &mut self,
        tokens: &[u32],
        adapter: Option<usize>,
        with: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> Result<()> {
        self.check_length(tokens.len(), "text")?;
        self.check_tokens(tokens, "text")?;
        self.check_adapter(adapter)?;
        self.check_room(tokens.len())?;
        let wanted = tokens.len().div_ceil(PAGE);
        if self.cache.available() < self.promised() + wanted {
            return Err(Error::new(super::KV_BUDGET, "the KV cache is in use").remedy("wait for running requests"));
        }
        let Some(pages) = self.cache.allocate(wanted) else {
            return Err(Error::new(super::KV_BUDGET, "the KV cache is in use"));
        };
        let mut outcome = self.forward.store.reserve(&pages).map_err(|cause| Error::new(IO, cause.to_string()));
        for (number, piece) in tokens.chunks(self.model.step_tokens).enumerate() {
            let before = number * self.model.step_tokens;
            if outcome.is_ok() {
                outcome = self.forward.run(&self.model, &[Chunk { tokens: piece, before, pages: &pages, adapter }]);
            }
            if outcome.is_ok() {
                let rows: Vec<usize> = (0..piece.len()).collect();
                self.forward.logits(&self.model, &rows, &|row, logits| with(before + row, logits));
            }
        }
        self.cache.release(&pages);
        outcome
    }
}
