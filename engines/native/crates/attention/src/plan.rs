//! What one step computes: tasks of rows with the runs of pages that they see. Pages that several sequences share are
//! one run for all their rows.

use std::ops::Range;

use crate::PAGE;

/// The rows of a sequence in a step.
#[derive(Debug, Clone, Copy)]
pub struct SequenceRows<'a> {
    /// Page `i` holds positions `32 i ..`; at least up to the last position of this step.
    pub pages: &'a [u32],
    /// Positions before the first row.
    pub before: usize,
    /// Rows of this step, at positions `before..before + rows`.
    pub rows: usize,
    /// Row of the step's matrices that the first one is; the others follow.
    pub first_row: usize,
}

/// A row and the positions that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub row: usize,
    pub start: usize,
    pub end: usize,
}

impl Row {
    /// Positions from the first to the last that one of `rows` sees.
    pub fn some(rows: &[Self]) -> Range<usize> {
        let start = rows.iter().map(|row| row.start).min().unwrap_or(0);
        start..rows.iter().map(|row| row.end).max().unwrap_or(start)
    }

    /// Positions that all of `rows` see.
    pub fn all(rows: &[Self]) -> Range<usize> {
        rows.iter().fold(0..usize::MAX, |all, row| all.start.max(row.start)..all.end.min(row.end))
    }
}

/// Adjacent pages that the same rows of a task see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Index of the first page in the sequences: its first position is 32 times that.
    pub first_page: usize,
    pub pages: Vec<u32>,
    /// Rows of the task.
    pub rows: Range<usize>,
    /// Positions that some and that all of the rows see, of these pages or others.
    pub some: Range<usize>,
    pub all: Range<usize>,
}

/// Rows that one call of `attend` computes for one key-value head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub rows: Vec<Row>,
    /// For every row in the order of positions.
    pub runs: Vec<Run>,
    /// Indices of the pages that some row sees.
    pub pages: Range<usize>,
}

/// Rows of a task at most: enough that reading a page costs little beside computing with it.
const ROWS: usize = 48;
/// Rows of a task at least, before a step is shared out to more tasks.
const FEW_ROWS: usize = 4;
/// Rows times positions of a task at most, as long as it has more than a few rows: the scores of a usual group of query
/// heads (288 KiB a head) then stay in a second-level cache.
const SCORES: usize = 48 * 1536;

/// The tasks of a step; one plan serves all layers and heads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    tasks: Vec<Task>,
}

struct Piece<'a> {
    pages: &'a [u32],
    seen: Range<usize>,
    rows: Range<usize>,
}

impl Plan {
    /// Plans causal attention: the row at position `p` sees positions `0..=p`, with a sliding `window` only the last
    /// `window` (at least 1) of them. The tasks come in falling order of size.
    ///
    /// # Panics
    /// If a sequence has too few pages.
    pub fn build(sequences: &[SequenceRows<'_>], window: Option<usize>) -> Self {
        let window = window.unwrap_or(usize::MAX).max(1);
        let mut order: Vec<&SequenceRows<'_>> = sequences.iter().filter(|sequence| sequence.rows > 0).collect();
        for sequence in &order {
            let needed = (sequence.before + sequence.rows).div_ceil(PAGE);
            assert!(sequence.pages.len() >= needed, "{} pages where {needed} are needed", sequence.pages.len());
        }
        // Sequences that share pages become neighbours; equal ones stay in their order.
        order.sort_by(|a, b| a.pages.cmp(b.pages));
        let total: usize = order.iter().map(|sequence| sequence.rows).sum();
        let longest = order.iter().map(|sequence| sequence.before + sequence.rows).max().unwrap_or(1);
        let most = (SCORES / longest / 4 * 4).clamp(FEW_ROWS, ROWS);
        // At least two tasks where there are rows for them, all of about the same number.
        let most = most.min(total.div_ceil(2).next_multiple_of(4).max(FEW_ROWS));
        let most = total.div_ceil(total.div_ceil(most).max(1)).next_multiple_of(4);
        let mut tasks = Vec::new();
        let (mut rows, mut pieces): (Vec<Row>, Vec<Piece<'_>>) = (Vec::new(), Vec::new());
        for sequence in order {
            let mut done = 0;
            while done < sequence.rows {
                let count = (sequence.rows - done).min(most - rows.len());
                let first = rows.len();
                rows.extend((done..done + count).map(|row| {
                    let end = sequence.before + row + 1;
                    Row { row: sequence.first_row + row, start: end.saturating_sub(window), end }
                }));
                let seen = rows[first].start / PAGE..rows[rows.len() - 1].end.div_ceil(PAGE);
                pieces.push(Piece { pages: sequence.pages, seen, rows: first..rows.len() });
                done += count;
                if rows.len() == most {
                    tasks.push(Task::new(std::mem::take(&mut rows), &std::mem::take(&mut pieces)));
                }
            }
        }
        if !rows.is_empty() {
            tasks.push(Task::new(rows, &pieces));
        }
        tasks.sort_by_key(|task| std::cmp::Reverse(task.size()));
        Self { tasks }
    }

    /// Number of independent tasks for each key-value head.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn task(&self, task: usize) -> &Task {
        &self.tasks[task]
    }
}

impl Task {
    fn new(rows: Vec<Row>, pieces: &[Piece<'_>]) -> Self {
        let first = pieces.iter().map(|piece| piece.seen.start).min().unwrap_or(0);
        let last = pieces.iter().map(|piece| piece.seen.end).max().unwrap_or(0);
        let mut runs: Vec<Run> = Vec::new();
        // Runs that reach up to the page before, by rows.
        let mut open: Vec<usize> = Vec::new();
        for index in first..last {
            let mut now = Vec::with_capacity(open.len());
            let mut candidates = open.iter().copied().peekable();
            let mut next = 0;
            while next < pieces.len() {
                let piece = &pieces[next];
                next += 1;
                if !piece.seen.contains(&index) {
                    continue;
                }
                let page = piece.pages[index];
                let mut rows = piece.rows.clone();
                while let Some(other) = pieces.get(next) {
                    if !other.seen.contains(&index) || other.pages[index] != page {
                        break;
                    }
                    rows.end = other.rows.end;
                    next += 1;
                }
                while candidates.next_if(|run| runs[*run].rows.start < rows.start).is_some() {}
                if let Some(run) = candidates.next_if(|run| runs[*run].rows == rows) {
                    runs[run].pages.push(page);
                    now.push(run);
                } else {
                    now.push(runs.len());
                    runs.push(Run { first_page: index, pages: vec![page], rows, some: 0..0, all: 0..0 });
                }
            }
            open = now;
        }
        for run in &mut runs {
            run.some = Row::some(&rows[run.rows.clone()]);
            run.all = Row::all(&rows[run.rows.clone()]);
        }
        Self { rows, runs, pages: first..last }
    }

    fn size(&self) -> usize {
        self.rows.iter().map(|row| row.end - row.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_pages_are_one_run_and_own_pages_are_apart() {
        let tables: Vec<Vec<u32>> = (0..8).map(|i| vec![3, 1, 2, 10 + i]).collect();
        let sequences: Vec<SequenceRows<'_>> = tables
            .iter()
            .enumerate()
            .map(|(row, pages)| SequenceRows { pages, before: 100, rows: 1, first_row: row })
            .collect();
        let plan = Plan::build(&sequences, None);
        assert_eq!(plan.tasks(), 2);
        let runs = &plan.task(0).runs;
        assert_eq!(runs[0], Run { first_page: 0, pages: vec![3, 1, 2], rows: 0..4, some: 0..101, all: 0..101 });
        assert_eq!(runs.len(), 5);
        assert_eq!(runs[4], Run { first_page: 3, pages: vec![13], rows: 3..4, some: 0..101, all: 0..101 });
    }

    #[test]
    fn a_window_leaves_out_the_pages_before_it() {
        let pages: Vec<u32> = (0..8).collect();
        let sequences = [SequenceRows { pages: &pages, before: 200, rows: 3, first_row: 5 }];
        let plan = Plan::build(&sequences, Some(10));
        let task = plan.task(0);
        assert_eq!(task.rows[0], Row { row: 5, start: 191, end: 201 });
        assert_eq!(task.runs, [Run { first_page: 5, pages: vec![5, 6], rows: 0..3, some: 191..203, all: 193..201 }]);
        assert_eq!(task.pages, 5..7);
    }

    #[test]
    fn tasks_hold_every_row_once_and_fall_in_size() {
        let pages: Vec<u32> = (0..40).collect();
        let sequences = [
            SequenceRows { pages: &pages, before: 0, rows: 500, first_row: 7 },
            SequenceRows { pages: &pages[..1], before: 0, rows: 0, first_row: 3 },
            SequenceRows { pages: &pages[3..], before: 77, rows: 7, first_row: 0 },
        ];
        let plan = Plan::build(&sequences, None);
        let mut rows: Vec<usize> = plan.tasks.iter().flat_map(|task| task.rows.iter().map(|row| row.row)).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..507).collect::<Vec<_>>());
        assert!(plan.tasks.iter().all(|task| task.rows.len() <= ROWS));
        assert!(plan.tasks.windows(2).all(|pair| pair[0].size() >= pair[1].size()));
        assert_eq!(Plan::build(&[], None).tasks(), 0);
    }
}
