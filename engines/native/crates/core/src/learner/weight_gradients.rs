//! Sums over tokens: gradients of matrices, biases and norms.

use crate::pool::{grown, Lockers, Pool, SharedMut};
use cupel_kernels::{add, gemm, pack_columns, pack_left, panel_count, tile_rows, Isa, Left};

use super::pass::Scratch;

/// Output rows of a task of a weight gradient are a multiple of this, which tiles of 6 and 12 divide.
const CHUNK: usize = 12;
/// Steps of a weight gradient that are packed together.
const STEPS: usize = 128;

/// A weight gradient `dw[rows, columns] += dyᵀ · x` over all steps.
pub struct WeightGradient<'a> {
    pub dy: &'a [f32],
    /// Distance of the rows of `dy`.
    pub stride: usize,
    pub rows: usize,
    pub x: &'a [f32],
    pub columns: usize,
    pub offset: usize,
}

/// Adds the rows of `partial` to `out` in order.
pub fn sum_blocks(isa: Isa, partial: &[f32], out: &mut [f32]) {
    for row in partial.chunks_exact(out.len()) {
        add(isa, out, row);
    }
}

/// Adds weight gradients, and bias gradients as column sums. Each task owns some rows of one gradient and runs over all steps in
/// order.
pub fn weight_gradients(
    isa: Isa,
    pool: &mut Pool,
    scratch: &Lockers<Scratch>,
    steps: usize,
    jobs: &[WeightGradient<'_>],
    bias: Option<(usize, &[f32], usize)>,
    weights: &mut [f32],
) {
    // Tasks of about equal work, few enough that packing `x` for each costs little.
    let work: usize = jobs.iter().map(|job| job.rows * job.columns).sum();
    let share = (work / (4 * pool.threads())).clamp(1 << 13, 1 << 15);
    let mut tasks: Vec<(usize, usize, usize)> = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        let chunk = (share / job.columns).next_multiple_of(CHUNK);
        tasks.extend((0..job.rows).step_by(chunk).map(|row| (number, row, chunk.min(job.rows - row))));
    }
    let shared = SharedMut::new(weights);
    pool.run(tasks.len() + usize::from(bias.is_some()), &|task| {
        let Some((number, first, rows)) = tasks.get(task).copied() else {
            if let Some((offset, dy, width)) = bias {
                // SAFETY: only this task writes the biases.
                let out = unsafe { shared.range(offset, width) };
                dy.chunks_exact(width).take(steps).for_each(|row| add(isa, out, row));
            }
            return;
        };
        let job = &jobs[number];
        // SAFETY: tasks own different rows.
        let out = unsafe { shared.range(job.offset + first * job.columns, rows * job.columns) };
        let tile = tile_rows(isa);
        scratch.with(|scratch| {
            let panels = panel_count(job.columns);
            let right = grown(&mut scratch.right, panels * STEPS);
            let left = grown(&mut scratch.left, tile * STEPS);
            for start in (0..steps).step_by(STEPS) {
                let length = STEPS.min(steps - start);
                for panel in 0..panels {
                    let source = &job.x[start * job.columns..];
                    pack_columns(source, job.columns, job.columns, panel, &mut right[panel * STEPS..][..length]);
                }
                for row in (0..rows).step_by(tile) {
                    let height = tile.min(rows - row);
                    pack_left(
                        &job.dy[start * job.stride..],
                        job.stride,
                        first + row,
                        height,
                        tile,
                        &mut left[..length * tile],
                    );
                    let out = &mut out[row * job.columns..];
                    gemm(
                        isa,
                        (height, job.columns, length),
                        Left::columns(left, tile),
                        right,
                        STEPS,
                        out,
                        job.columns,
                        true,
                    );
                }
            }
        });
    });
}
