use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::Mutex;

use crate::error::{guarded, Error, Result, OUTPUT_NONFINITE};
use crate::generate::arg_max;
use crate::kernels::{ln, log_sum};
use crate::model::{check_cancelled, Cache, Model, Segment, Worker};
use crate::pool::SharedMut;

/// Rows of one step at most, unless one sequence alone is longer.
const STEP_ROWS: usize = 2048;

/// A continuation to score after a context, both in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoreItem {
    /// At least one token: the first continuation token is predicted from it.
    pub context: Vec<u32>,
    pub continuation: Vec<u32>,
}

/// Scores of one item, one entry a continuation token.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Natural logarithms.
    pub log_probabilities: Vec<f32>,
    /// Whether the token was the arg-max (the lowest id wins a tie).
    pub is_greedy: Vec<bool>,
}

/// A sequence to read, with the rows whose predictions are wanted.
struct Reading {
    cache: Cache,
    tokens: Vec<u32>,
    /// (row of `tokens`, item, index in its continuation)
    wanted: Vec<(usize, usize, usize)>,
}

impl Model {
    /// Log-probabilities of continuations, in the order of the items. Equal contexts are read once; logits are
    /// only computed for rows that are asked for. Bits do not depend on what else is in the call.
    pub fn score(&self, items: &[ScoreItem], cancelled: &AtomicBool) -> Result<Vec<Scored>> {
        guarded(|| {
            for (index, item) in items.iter().enumerate() {
                let place = |error: Error| error.at(format!("items[{index}]"));
                self.check_length(item.context.len(), "context").map_err(place)?;
                self.check_length(item.context.len() + item.continuation.len(), "context with continuation")
                    .map_err(place)?;
                self.check_tokens(&item.context, "context").map_err(place)?;
                self.check_tokens(&item.continuation, "continuation").map_err(place)?;
            }
            let mut groups: Vec<Vec<usize>> = Vec::new();
            let mut known: HashMap<&[u32], usize> = HashMap::new();
            for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.continuation.is_empty()) {
                let group = *known.entry(&item.context).or_insert_with(|| {
                    groups.push(Vec::new());
                    groups.len() - 1
                });
                groups[group].push(index);
            }
            let mut results: Vec<Scored> = items
                .iter()
                .map(|item| Scored {
                    log_probabilities: vec![0.0; item.continuation.len()],
                    is_greedy: vec![false; item.continuation.len()],
                })
                .collect();
            let mut worker = self.worker();
            let outcome = self.score_groups(&mut worker, items, &groups, &mut results, cancelled);
            worker.rest();
            outcome.map(|()| results)
        })
    }

    fn score_groups(
        &self,
        worker: &mut Worker,
        items: &[ScoreItem],
        groups: &[Vec<usize>],
        results: &mut [Scored],
        cancelled: &AtomicBool,
    ) -> Result<()> {
        let mut next = 0;
        while next < groups.len() {
            let mut contexts = Vec::new();
            let mut rows = 0;
            let begin = next;
            while next < groups.len() && (rows == 0 || rows < STEP_ROWS) {
                let group = &groups[next];
                let first = &items[group[0]];
                let mut tokens = first.context.clone();
                let last = tokens.len() - 1;
                let longest = group.iter().map(|item| items[*item].continuation.len()).max().unwrap_or(1);
                let mut wanted: Vec<_> = group.iter().map(|item| (last, *item, 0)).collect();
                if let [only] = group[..] {
                    tokens.extend(&first.continuation[..longest - 1]);
                    wanted.extend((1..longest).map(|index| (last + index, only, index)));
                }
                rows += tokens.len();
                let cache = self.cache(worker, first.context.len() + longest - 1)?;
                contexts.push(Reading { cache, tokens, wanted });
                next += 1;
            }
            self.read(worker, items, &mut contexts, results, cancelled)?;
            let shared = groups[begin..next].iter().enumerate().filter(|(_, group)| group.len() > 1);
            let branches: Vec<(usize, usize)> = shared
                .flat_map(|(context, group)| group.iter().map(move |item| (context, *item)))
                .filter(|(_, item)| items[*item].continuation.len() > 1)
                .collect();
            let mut branches = branches.into_iter().peekable();
            while branches.peek().is_some() {
                let mut readings = Vec::new();
                let mut rows = 0;
                while let Some((context, item)) = branches.next_if(|_| rows < STEP_ROWS) {
                    let (item_tokens, context) = (&items[item].continuation, &contexts[context].cache);
                    let tokens = item_tokens[..item_tokens.len() - 1].to_vec();
                    let mut cache = self.cache(worker, context.length + tokens.len())?;
                    self.copy_prefix(context, context.length, &mut cache);
                    rows += tokens.len();
                    let wanted = (0..tokens.len()).map(|row| (row, item, row + 1)).collect();
                    readings.push(Reading { cache, tokens, wanted });
                }
                self.read(worker, items, &mut readings, results, cancelled)?;
                readings.into_iter().for_each(|reading| worker.release(reading.cache));
            }
            contexts.into_iter().for_each(|reading| worker.release(reading.cache));
        }
        Ok(())
    }

    fn read(
        &self,
        worker: &mut Worker,
        items: &[ScoreItem],
        readings: &mut [Reading],
        results: &mut [Scored],
        cancelled: &AtomicBool,
    ) -> Result<()> {
        check_cancelled(cancelled)?;
        // Several items may want the same row: rows are computed once.
        let mut rows: Vec<usize> = Vec::new();
        let mut takers: Vec<Vec<(usize, usize)>> = Vec::new();
        let mut start = 0;
        for reading in readings.iter() {
            for (row, item, index) in &reading.wanted {
                if rows.last() != Some(&(start + row)) {
                    rows.push(start + row);
                    takers.push(Vec::new());
                }
                if let Some(last) = takers.last_mut() {
                    last.push((*item, *index));
                }
            }
            start += reading.tokens.len();
        }
        let mut segments: Vec<Segment<'_>> =
            readings.iter_mut().map(|reading| Segment { cache: &mut reading.cache, tokens: &reading.tokens }).collect();
        self.advance(worker, &mut segments);
        let isa = self.network(&worker.rope).isa;
        let mut found: Vec<Vec<(f32, bool)>> = takers.iter().map(|takers| vec![(0.0, false); takers.len()]).collect();
        let shared = SharedMut::new(&mut found);
        let failure = Mutex::new(None);
        self.logits(worker, &rows, &|number, logits| {
            let (top, sum) = log_sum(isa, logits);
            let best = arg_max(logits);
            // SAFETY: each row has its own place.
            let out = unsafe { shared.range(number, 1) };
            for ((item, index), (value, greedy)) in takers[number].iter().zip(out[0].iter_mut()) {
                let token = items[*item].continuation[*index];
                *value = logits[token as usize] - top - ln(sum);
                *greedy = best == Some(token);
                if !value.is_finite() {
                    let error = Error::new(
                        OUTPUT_NONFINITE,
                        format!("log-probability of continuation token {index} is {value}"),
                    );
                    if let Ok(mut failure) = failure.lock() {
                        *failure = Some(error.at(format!("items[{item}]")));
                    }
                }
            }
        });
        if let Some(error) = failure.into_inner().ok().flatten() {
            return Err(error);
        }
        for (takers, found) in takers.iter().zip(&found) {
            for ((item, index), (value, greedy)) in takers.iter().zip(found) {
                results[*item].log_probabilities[*index] = *value;
                results[*item].is_greedy[*index] = *greedy;
            }
        }
        Ok(())
    }
}
