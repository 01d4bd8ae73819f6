//! The bits of attention, against the unpaged computation and against other ways of sharing out the work.

use cupel_attention::{attend, KvType, Plan, Scratch, SequenceRows, PAGE};
use cupel_kernels::{gemm, pack_columns, pack_rows, panel_count, softmax, Isa, Left, Line, Out};
use proptest::prelude::*;

use crate::world::{planned, sequences, sets, Numbers, World, LAYERS};

fn check(seed: u64, heads: usize, group: usize, head_dim: usize, kind: KvType, count: usize, most_rows: usize) {
    let numbers = &mut Numbers(seed);
    let (sequences, used, rows) = sequences(numbers, count, most_rows);
    let window = [None, Some(1 + numbers.below(90))][numbers.below(2)];
    let world = World::new(numbers, heads, head_dim, kind, &used);
    let width = heads * group * head_dim;
    let (query_column, out_column) = (numbers.below(3), numbers.below(3));
    let (query_stride, out_stride) = (width + query_column + 5, width + out_column + 2);
    let queries = numbers.row(rows * query_stride);
    let plan = Plan::build(&planned(&sequences), window);
    let mut expected = vec![7.0f32; rows * out_stride];
    for sequence in &sequences {
        for row in 0..sequence.rows {
            let end = sequence.before + row + 1;
            let start = window.map_or(0, |window| end.saturating_sub(window));
            for head in 0..heads * group {
                let matrix_row = sequence.first_row + row;
                let query = &queries[matrix_row * query_stride + query_column + head * head_dim..][..head_dim];
                let result = world.expected(&sequence.pages, start, end, head / group, query);
                expected[matrix_row * out_stride + out_column + head * head_dim..][..head_dim].copy_from_slice(&result);
            }
        }
    }
    let mut scratch = Scratch::default();
    for isa in sets() {
        let mut results = vec![7.0f32; rows * out_stride];
        for task in (0..plan.tasks()).rev() {
            for head in 0..heads {
                let out = Out::new(&mut results, out_stride);
                // SAFETY: one call at a time.
                unsafe {
                    attend(
                        isa,
                        &world.store,
                        LAYERS - 1,
                        head,
                        &plan,
                        task,
                        group,
                        &queries,
                        query_stride,
                        query_column,
                        out,
                        out_column,
                        &mut scratch,
                    );
                }
            }
        }
        for (index, (result, expected)) in results.iter().zip(&expected).enumerate() {
            let (row, column) = (index / out_stride, index % out_stride);
            assert_eq!(result.to_bits(), expected.to_bits(), "{isa:?} row {row} column {column}: {sequences:?}");
        }
    }
}

const KINDS: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Q8_0];

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn paged_attention_has_the_bits_of_an_unpaged_one(
        seed in any::<u64>(), heads in 1usize..3, group in 1usize..9, half_dim in 8usize..65, kind in 0usize..3,
        count in 1usize..7, most_rows in prop_oneof![Just(1usize), Just(4), Just(70)],
    ) {
        check(seed, heads, group, half_dim * 2, KINDS[kind], count, most_rows);
    }
}

#[test]
fn usual_shapes_have_the_bits_of_an_unpaged_computation() {
    for (index, kind) in KINDS.into_iter().enumerate() {
        check(index as u64, 2, 3, 64, kind, 20, 1);
        check(index as u64 + 10, 1, 4, 128, kind, 2, 130);
        check(index as u64 + 20, 1, 1, 80, kind, 40, 2);
    }
}

/// The computation that scoring and training use: packed keys and values, blocks of rows, the row kernel.
#[test]
fn a_sequence_has_the_bits_of_the_contiguous_attention_of_the_core() {
    let (head_dim, length) = (64, 150);
    let numbers = &mut Numbers(5);
    let pages: Vec<u32> = vec![2, 0, 4, 1, 3];
    let world = World::new(numbers, 1, head_dim, KvType::F32, &[PAGE; 5]);
    let at = |position: usize| &world.contents[pages[position / PAGE] as usize][position % PAGE][0];
    let keys: Vec<f32> = (0..length).flat_map(|position| at(position).0.clone()).collect();
    let values: Vec<f32> = (0..length).flat_map(|position| at(position).1.clone()).collect();
    let mut key_lines = vec![Line::default(); panel_count(length) * head_dim];
    for (panel, lines) in key_lines.chunks_exact_mut(head_dim).enumerate() {
        pack_rows(&keys, head_dim, length, panel, lines);
    }
    let mut value_lines = vec![Line::default(); panel_count(head_dim) * length];
    for (panel, lines) in value_lines.chunks_exact_mut(length).enumerate() {
        pack_columns(&values, head_dim, head_dim, panel, lines);
    }
    let queries = numbers.row(length * head_dim);
    for isa in sets() {
        let mut scores = vec![0.0; length * length];
        let shape = (length, length, head_dim);
        gemm(isa, shape, Left::rows(&queries, head_dim), &key_lines, head_dim, &mut scores, length, false);
        let mut expected = vec![0.0f32; length * head_dim];
        for (row, scores) in scores.chunks_exact_mut(length).enumerate() {
            softmax(isa, &mut scores[..row + 1], 1.0 / (head_dim as f32).sqrt());
            let (out, left) = (&mut expected[row * head_dim..], Left::rows(scores, length));
            gemm(isa, (1, head_dim, row + 1), left, &value_lines, length, out, head_dim, false);
        }
        // In chunks that do not end with pages.
        let mut results = vec![0.0f32; length * head_dim];
        for (before, rows) in [(0, 50), (50, 1), (51, 99)] {
            let sequence = SequenceRows { pages: &pages, before, rows, first_row: before };
            let plan = Plan::build(&[sequence], None);
            let mut scratch = Scratch::default();
            for task in 0..plan.tasks() {
                let out = Out::new(&mut results, head_dim);
                // SAFETY: one call at a time.
                unsafe {
                    attend(isa, &world.store, 1, 0, &plan, task, 1, &queries, head_dim, 0, out, 0, &mut scratch);
                }
            }
        }
        assert!(results.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa:?}");
    }
}

#[test]
fn tasks_on_several_threads_change_no_bit() {
    let (heads, group, head_dim) = (2, 3, 64);
    let numbers = &mut Numbers(77);
    let (sequences, used, rows) = sequences(numbers, 6, 60);
    let world = World::new(numbers, heads, head_dim, KvType::F16, &used);
    let width = heads * group * head_dim;
    let queries = numbers.row(rows * width);
    let plan = Plan::build(&planned(&sequences), None);
    assert!(plan.tasks() > 1);
    let run = |threads: usize| {
        let mut results = vec![0.0f32; rows * width];
        let out = Out::new(&mut results, width);
        let (plan, queries, store) = (&plan, &queries, &world.store);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut scratch = Scratch::default();
                    for index in (thread..plan.tasks() * heads).step_by(threads) {
                        let (task, head) = (index / heads, index % heads);
                        let layer = LAYERS - 1;
                        // SAFETY: every task and head is computed once, and nobody appends.
                        unsafe {
                            let (isa, scratch) = (Isa::detect(), &mut scratch);
                            attend(isa, store, layer, head, plan, task, group, queries, width, 0, out, 0, scratch);
                        }
                    }
                });
            }
        });
        results.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
}
