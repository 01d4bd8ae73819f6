//! Sums over tokens: gradients of matrices, biases and norms.

use crate::pool::{grown, Pool, SharedMut};
use cupel_kernels::{add, panel_count, Isa, PANEL};

use super::arithmetic::{Arithmetic, Rows};

/// Steps that are packed together.
pub const STEPS: usize = 1024;
/// Panels that a task packs.
const GROUP: usize = 8;

/// A weight gradient `dw[rows, columns] += dyᵀ · x` over all steps.
pub struct WeightGradient<'a, V> {
    pub dy: Rows<'a, V>,
    pub rows: usize,
    pub x: Rows<'a, V>,
    pub columns: usize,
    /// Where it lies in the gradients.
    pub offset: usize,
}

/// Adds the rows of `partial` to `out` in order.
pub fn sum_blocks(isa: Isa, partial: &[f32], out: &mut [f32]) {
    for row in partial.chunks_exact(out.len()) {
        add(isa, out, row);
    }
}

fn from<V>(rows: Rows<'_, V>, row: usize) -> Rows<'_, V> {
    match rows {
        Rows::Single { data, stride } => Rows::Single { data: &data[row * stride..], stride },
        Rows::Stored { data, stride } => Rows::Stored { data: &data[row * stride..], stride },
    }
}

/// Adds weight gradients. Both sides are packed once for a run of steps; then each task owns some rows of one gradient
/// and goes on with their sums over the steps in order. `panels` is a buffer.
pub fn weight_gradients<C: Arithmetic>(
    isa: Isa,
    pool: &mut Pool,
    steps: usize,
    jobs: &[WeightGradient<'_, C::Value>],
    panels: &mut Vec<C::Line>,
    gradients: &mut [f32],
) {
    let capacity = C::values(STEPS.min(steps));
    // Where the panels of each side of each job begin.
    let mut starts = Vec::new();
    let mut packing = Vec::new();
    let mut total = 0;
    let mut sides: Vec<(*const u8, usize, usize)> = Vec::new();
    for job in jobs {
        for (side, width) in [(job.dy, job.rows), (job.x, job.columns)] {
            // Several jobs may share a side.
            let place = match side {
                Rows::Single { data, .. } => data.as_ptr().cast(),
                Rows::Stored { data, .. } => data.as_ptr().cast(),
            };
            if let Some(known) = sides.iter().find(|known| (known.0, known.1) == (place, width)) {
                starts.push(known.2);
                continue;
            }
            sides.push((place, width, total));
            starts.push(total);
            packing.extend((0..panel_count(width)).step_by(GROUP).map(|panel| (side, width, panel, total + panel)));
            total += panel_count(width);
        }
    }
    let work: usize = jobs.iter().map(|job| job.rows * job.columns).sum();
    let share = (work / (16 * pool.threads())).clamp(1 << 13, 1 << 17);
    let mut tasks: Vec<(usize, usize, usize)> = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        let chunk = (share / job.columns).next_multiple_of(4 * PANEL);
        tasks.extend((0..job.rows).step_by(chunk).map(|row| (number, row, chunk.min(job.rows - row))));
    }
    let lines = grown(panels, total * capacity);
    let gradients = SharedMut::new(gradients);
    for start in (0..steps).step_by(STEPS) {
        let length = STEPS.min(steps - start);
        let shared = SharedMut::new(&mut *lines);
        pool.run(packing.len(), &|task| {
            let (side, width, first, place) = packing[task];
            let count = GROUP.min(panel_count(width) - first);
            for panel in 0..count {
                // SAFETY: every panel belongs to one task.
                let out = unsafe { shared.range((place + panel) * capacity, C::values(length)) };
                C::pack_columns(isa, from(side, start), (length, width), first + panel, out);
            }
        });
        let lines = &*lines;
        pool.run(tasks.len(), &|task| {
            let (number, first, rows) = tasks[task];
            let job = &jobs[number];
            // SAFETY: tasks own different rows.
            let out = unsafe { gradients.range(job.offset + first * job.columns, rows * job.columns) };
            let left = &lines[(starts[2 * number] + first / PANEL) * capacity..];
            let right = &lines[starts[2 * number + 1] * capacity..];
            let shape = (rows, job.columns, length);
            C::product_of_panels(isa, shape, left, capacity, right, capacity, out, job.columns, true);
        });
    }
}

/// Adds the columns sums of `count` rows of `width` numbers.
pub fn bias_gradient<C: Arithmetic>(isa: Isa, dy: &[C::Value], width: usize, out: &mut [f32]) {
    let mut buffer = Vec::new();
    for row in dy.chunks_exact(C::values(width)) {
        add(isa, out, &C::loaded(isa, row, &mut buffer)[..width]);
    }
}
