//! Score items to sequences to read: a tree with the contexts at its root and the continuations as branches.

use std::collections::HashMap;

use cupel_files::{Error, Result};

use super::request::{ScoreItem, Scored};

/// A prediction that is wanted: the row at `position` predicts token `index` of item `item`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub position: usize,
    pub item: usize,
    pub index: usize,
}

/// Tokens to read, the predictions wanted of them, and what continues them.
#[derive(Debug)]
pub struct Reading {
    pub tokens: Vec<u32>,
    pub adapter: Option<usize>,
    /// By position.
    pub targets: Vec<Target>,
    pub branches: Vec<Reading>,
}

/// The items of one call.
pub struct Group {
    pub items: Vec<ScoreItem>,
    pub results: Vec<Scored>,
    /// Readings not yet done.
    pub left: usize,
}

impl Group {
    /// Groups items by their context; items without continuation have nothing to read.
    pub fn new(items: Vec<ScoreItem>) -> (Self, Vec<Reading>) {
        let mut readings: Vec<Reading> = Vec::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut known: HashMap<(Option<usize>, &[u32]), usize> = HashMap::new();
        for (number, item) in items.iter().enumerate().filter(|(_, item)| !item.continuation.is_empty()) {
            let group = *known.entry((item.adapter, &item.context)).or_insert_with(|| {
                members.push(Vec::new());
                members.len() - 1
            });
            members[group].push(number);
        }
        drop(known);
        for members in members {
            let first = &items[members[0]];
            let last = first.context.len() - 1;
            let mut reading = Reading {
                tokens: first.context.clone(),
                adapter: first.adapter,
                targets: members.iter().map(|item| Target { position: last, item: *item, index: 0 }).collect(),
                branches: Vec::new(),
            };
            let rest = |item: usize| {
                let count = items[item].continuation.len();
                (1..count).map(move |index| Target { position: last + index, item, index })
            };
            if let [only] = members[..] {
                reading.tokens.extend(&first.continuation[..first.continuation.len() - 1]);
                reading.targets.extend(rest(only));
            } else {
                reading.branches = members
                    .iter()
                    .filter(|item| items[**item].continuation.len() > 1)
                    .map(|item| {
                        let continuation = &items[*item].continuation;
                        let mut tokens = first.context.clone();
                        tokens.extend(&continuation[..continuation.len() - 1]);
                        let targets = rest(*item).collect();
                        Reading { tokens, adapter: first.adapter, targets, branches: Vec::new() }
                    })
                    .collect();
            }
            readings.push(reading);
        }
        let results = items
            .iter()
            .map(|item| Scored {
                log_probabilities: vec![0.0; item.continuation.len()],
                is_greedy: vec![false; item.continuation.len()],
            })
            .collect();
        let left = readings.iter().map(|reading| 1 + reading.branches.len()).sum();
        (Self { items, results, left }, readings)
    }

    /// Keeps a prediction; a log-probability that is not a number is an error of the checkpoint.
    pub fn keep(&mut self, target: Target, value: f32, greedy: bool) -> Result<()> {
        if !value.is_finite() {
            let message = format!("log-probability of continuation token {} is {value}", target.index);
            return Err(Error::new(cupel_files::OUTPUT_NONFINITE, message).at(format!("items[{}]", target.item)));
        }
        let result = &mut self.results[target.item];
        result.log_probabilities[target.index] = value;
        result.is_greedy[target.index] = greedy;
        Ok(())
    }
}
