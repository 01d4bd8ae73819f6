//! Attention of one task and one key-value head: scores page by page for all rows that see the page, softmax by rows,
//! outputs run by run of pages.

use std::ops::Range;

use cupel_kernels::{panel_count, Isa, Line, Out, PANEL};

use crate::plan::{Plan, Row, Run, Task};
use crate::softmax::{softmax, Scores};
use crate::store::{prefetch, KvStore, KvType, KEY_PANELS};
use crate::tile::{product, tile_rows, Family, Product};
use crate::{widen, PAGE};

/// Pages whose values are multiplied in one go: the sums stay in registers, widened values in the nearest caches.
const RUN: usize = 8;
/// Rows of queries and outputs that are asked for ahead: they come from the large matrices of the step.
const AHEAD: usize = 4;

/// Buffers of a thread. They grow to what the largest task needs.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Queries, `[dimension / 16][row]`.
    queries: Vec<Line>,
    /// Scores, then probabilities, `[position / 16][row]`.
    scores: Vec<Line>,
    /// Outputs, `[dimension / 16][row]`.
    outputs: Vec<Line>,
    /// Widened keys of a page or values of a few pages.
    wide: Vec<Line>,
    /// Blocks of 16 steps of the right side of a product.
    blocks: Vec<*const u8>,
}

// SAFETY: the addresses in `blocks` are written anew in every call before they are used.
unsafe impl Send for Scratch {}

/// Attention of the rows of task `task` of `plan` and the `group` query heads of key-value head `head`.
///
/// Query head `g` of the group for row `r` is `queries[r * query_stride + query_column + (head * group + g) * head_dim
/// ..][..head_dim]`; its output goes to row `r` of `out`, from column `out_column + (head * group + g) * head_dim`.
/// The bits of a row depend on its query and on the stored keys and values of the positions that it sees, on nothing
/// else.
///
/// # Safety
/// Nobody appends to the pages of this layer and head or writes these rows and columns of `out` meanwhile. Calls that
/// differ in task or head may run at the same time.
///
/// # Panics
/// If a page is not reserved, or the queries or the output are too small.
#[allow(clippy::too_many_arguments)]
pub unsafe fn attend(
    isa: Isa,
    store: &KvStore,
    layer: usize,
    head: usize,
    plan: &Plan,
    task: usize,
    group: usize,
    queries: &[f32],
    query_stride: usize,
    query_column: usize,
    out: Out<'_>,
    out_column: usize,
    scratch: &mut Scratch,
) {
    let task = plan.task(task);
    let head_dim = store.head_dim();
    let rows = task.rows.len() * group;
    let call = Call {
        family: Family::of(isa),
        store,
        layer,
        head,
        task,
        group,
        // Odd, so that the lines of a row spread over the sets of the caches.
        stride: (rows | 1) * PANEL,
    };
    scratch.prepare(&call);
    let lines = call.stride / PANEL;
    let column = query_column + head * group * head_dim;
    for (index, row) in task.rows.iter().enumerate() {
        if let Some(later) = task.rows.get(index + AHEAD) {
            let address = queries.as_ptr().wrapping_add(later.row * query_stride + column);
            prefetch(address.cast(), group * head_dim * size_of::<f32>());
        }
        let queries = &queries[row.row * query_stride + column..][..group * head_dim];
        for (g, query) in queries.chunks_exact(head_dim).enumerate() {
            let first = index * group + g;
            let (whole, rest) = query.as_chunks::<PANEL>();
            for (panel, chunk) in whole.iter().enumerate() {
                scratch.queries[panel * lines + first].0 = *chunk;
            }
            if !rest.is_empty() {
                scratch.queries[whole.len() * lines + first].0[..rest.len()].copy_from_slice(rest);
            }
        }
    }
    for index in 0..task.runs.len() {
        call.scores(index, scratch);
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    let first = task.pages.start * PAGE;
    let mut line = 0;
    for rows in task.rows.chunk_by(|a, b| a.start == b.start && a.end == b.end) {
        let scores = Scores {
            data: scratch.scores.as_mut_ptr().cast::<f32>().add(line * PANEL),
            stride: call.stride,
            start: rows[0].start - first,
            end: rows[0].end - first,
        };
        softmax(isa, rows.len() * group, scores, scale);
        line += rows.len() * group;
    }
    for index in 0..task.runs.len() {
        call.outputs(index, scratch);
    }
    let target = |row: &Row| out.at(row.row, out_column + head * group * head_dim, group * head_dim);
    for (index, row) in task.rows.iter().enumerate() {
        if let Some(later) = task.rows.get(index + AHEAD) {
            prefetch(target(later).as_ptr().cast(), group * head_dim * size_of::<f32>());
        }
        for (g, target) in target(row).chunks_exact_mut(head_dim).enumerate() {
            let first = index * group + g;
            let (whole, rest) = target.as_chunks_mut::<PANEL>();
            for (panel, chunk) in whole.iter_mut().enumerate() {
                *chunk = scratch.outputs[panel * lines + first].0;
            }
            if !rest.is_empty() {
                let length = rest.len();
                rest.copy_from_slice(&scratch.outputs[whole.len() * lines + first].0[..length]);
            }
        }
    }
}

impl Scratch {
    fn prepare(&mut self, call: &Call<'_>) {
        let lines = call.stride / PANEL;
        let panels = panel_count(call.store.head_dim());
        grow(&mut self.queries, panels * lines);
        grow(&mut self.scores, call.task.pages.len() * KEY_PANELS * lines);
        grow(&mut self.outputs, panels * lines);
        self.outputs[..panels * lines].fill(Line::default());
        grow(&mut self.wide, (KEY_PANELS * call.store.head_dim()).max(RUN * panels * PAGE));
    }
}

fn grow(lines: &mut Vec<Line>, length: usize) {
    if lines.len() < length {
        lines.resize(length, Line::default());
    }
}

struct Call<'a> {
    family: Family,
    store: &'a KvStore,
    layer: usize,
    head: usize,
    task: &'a Task,
    group: usize,
    /// Floats from one panel of the row buffers to the next.
    stride: usize,
}

/// The part of `range` inside `to`; an empty one lies at an end of `to`.
fn clip(range: &Range<usize>, to: &Range<usize>) -> Range<usize> {
    range.start.clamp(to.start, to.end)..range.end.clamp(to.start, to.end)
}

impl Call<'_> {
    /// How the products read the pages of a run: in place, as halves in place, or widened.
    fn access(&self, run: &Run) -> Access {
        match self.store.kind() {
            KvType::F32 => Access::Floats,
            KvType::F16 if self.family != Family::Scalar && run.rows.len() * self.group <= tile_rows(self.family) => {
                Access::Halves
            }
            _ => Access::Widened,
        }
    }

    /// Page `index` of run `number`, or the first one of the run after; and its slots that are seen.
    fn following(&self, number: usize, index: usize) -> Option<(*const u8, usize)> {
        let run = self.task.runs.get(number)?;
        let Some(page) = run.pages.get(index) else {
            return self.following(number + 1, 0);
        };
        let slots = run.some.end.saturating_sub((run.first_page + index) * PAGE).min(PAGE);
        Some((self.store.part(self.layer, self.head, *page), slots))
    }

    /// Rows of the task that a tile covers: lines `lines` of the row buffers.
    fn rows(&self, lines: &Range<usize>) -> &[Row] {
        &self.task.rows[lines.start / self.group..lines.end.div_ceil(self.group)]
    }

    /// Tiles of the lines of a run, about equally high.
    fn tiles(&self, run: &Run) -> impl Iterator<Item = Range<usize>> {
        let (start, end) = (run.rows.start * self.group, run.rows.end * self.group);
        let high = (end - start).div_ceil((end - start).div_ceil(tile_rows(self.family)));
        (start..end).step_by(high).map(move |line| line..(line + high).min(end))
    }

    /// Scores of all rows of a run: panels of 16 positions that a row of the tile sees.
    unsafe fn scores(&self, number: usize, scratch: &mut Scratch) {
        let run = &self.task.runs[number];
        let head_dim = self.store.head_dim();
        let access = self.access(run);
        let size = if access == Access::Halves { 2 } else { 4 };
        for (index, page) in run.pages.iter().enumerate() {
            let first = (run.first_page + index) * PAGE;
            let panels_of = |seen: &Range<usize>| {
                let seen = clip(seen, &(first..first + PAGE));
                (seen.start - first) / PANEL..(seen.end - first).div_ceil(PANEL)
            };
            let panels = panels_of(&run.some);
            let mut keys = self.store.part(self.layer, self.head, *page);
            if access == Access::Widened {
                widen::keys(self.store, keys, panels.clone(), &mut scratch.wide);
                keys = scratch.wide.as_ptr().cast();
            }
            if let Some((part, slots)) = self.following(number, index + 1) {
                self.store.prefetch_keys(part, slots);
            }
            scratch.blocks.clear();
            let block_bytes = PANEL * PANEL * size;
            scratch.blocks.extend((0..head_dim.div_ceil(PANEL)).map(|block| keys.add(block * block_bytes)));
            let alike = run.all.start <= first && run.all.end >= first + PAGE;
            let panel = (first - self.task.pages.start * PAGE) / PANEL;
            let mut shape = Product {
                left: scratch.queries.as_ptr().cast(),
                left_block: self.stride,
                right: &scratch.blocks,
                right_panel: head_dim * PANEL,
                half: access == Access::Halves,
                out: scratch.scores.as_mut_ptr().cast::<f32>().add(panel * self.stride),
                out_panel: self.stride,
                first: 0,
                steps: head_dim,
                accumulate: false,
            };
            let (left, out) = (shape.left, shape.out);
            for lines in self.tiles(run) {
                let panels = if alike { panels.clone() } else { panels_of(&Row::some(self.rows(&lines))) };
                debug_assert!(panels.end <= KEY_PANELS, "panels of one page");
                shape.left = left.add(lines.start * PANEL);
                shape.out = out.add(lines.start * PANEL);
                product(self.family, lines.len(), panels, &shape);
            }
        }
    }

    /// Goes on with the outputs of all rows of a run over its positions.
    unsafe fn outputs(&self, number: usize, scratch: &mut Scratch) {
        let run = &self.task.runs[number];
        let panels = panel_count(self.store.head_dim());
        let access = self.access(run);
        let size = if access == Access::Halves { 2 } else { 4 };
        for (index, pages) in run.pages.chunks(RUN).enumerate() {
            let first = (run.first_page + index * RUN) * PAGE;
            let range = first..first + pages.len() * PAGE;
            scratch.blocks.clear();
            for (place, page) in pages.iter().enumerate() {
                let part = self.store.part(self.layer, self.head, *page);
                let mut values = part.add(self.store.head_layout().values);
                if access == Access::Widened {
                    let wide = &mut scratch.wide[place * panels * PAGE..];
                    let first = first + place * PAGE;
                    widen::values(self.store, part, clip(&run.some, &(first..first + PAGE)).end - first, wide);
                    values = wide.as_ptr().cast();
                }
                if let Some((part, slots)) = self.following(number, index * RUN + place + 1) {
                    self.store.prefetch_values(part, slots);
                }
                scratch.blocks.extend((0..PAGE / PANEL).map(|half| values.add(half * PANEL * PANEL * size)));
            }
            let panel = (first - self.task.pages.start * PAGE) / PANEL;
            let scores = scratch.scores.as_ptr().cast::<f32>().add(panel * self.stride);
            let outputs = scratch.outputs.as_mut_ptr().cast::<f32>();
            let chain = |lines: Range<usize>, positions: Range<usize>| {
                if positions.is_empty() {
                    return;
                }
                debug_assert!(positions.start >= range.start && positions.end <= range.end, "positions of the pages");
                let shape = Product {
                    left: scores.add(lines.start * PANEL),
                    left_block: self.stride,
                    right: &scratch.blocks,
                    right_panel: PAGE * PANEL,
                    half: access == Access::Halves,
                    out: outputs.add(lines.start * PANEL),
                    out_panel: self.stride,
                    first: positions.start - first,
                    steps: positions.len(),
                    accumulate: true,
                };
                product(self.family, lines.len(), 0..panels, &shape);
            };
            if run.all.start <= range.start && run.all.end >= range.end {
                self.tiles(run).for_each(|lines| chain(lines, range.clone()));
                continue;
            }
            for lines in self.tiles(run) {
                let all = Row::all(self.rows(&lines));
                let common = clip(&all, &range);
                if common.is_empty() {
                    self.each(&lines, |lines, row| chain(lines, clip(&(row.start..row.end), &range)));
                    continue;
                }
                // Before and after the positions that all rows see, each row goes alone.
                self.each(&lines, |lines, row| chain(lines, row.start.max(range.start)..common.start));
                chain(lines.clone(), common.clone());
                self.each(&lines, |lines, row| chain(lines, common.end..row.end.min(range.end)));
            }
        }
    }

    /// Calls `visit` with the lines of each row in a tile.
    fn each(&self, lines: &Range<usize>, mut visit: impl FnMut(Range<usize>, &Row)) {
        let first = lines.start / self.group;
        for (index, row) in self.rows(lines).iter().enumerate() {
            let own = (first + index) * self.group..(first + index + 1) * self.group;
            visit(clip(&own, lines), row);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Floats,
    Halves,
    Widened,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_clipped_to_nothing_inside() {
        assert_eq!(clip(&(3..40), &(16..32)), 16..32);
        assert_eq!(clip(&(100..120), &(0..32)), 32..32);
        assert_eq!(clip(&(3..10), &(32..64)), 32..32);
    }
}
