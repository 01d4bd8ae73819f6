//! The product of attention. Every element is one chain of fused multiply-adds over the steps in order, started from
//! zero or from the value already there, as in the matrix product of the kernels; left side and result are lines of
//! 16 (`[step / 16][row][16]`), the right side is a list of blocks of 16 steps that may lie anywhere.

use std::ops::Range;

use cupel_kernels::{Isa, PANEL};

/// Instruction sets that this crate is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Scalar,
    Avx2,
    Avx512,
}

impl Family {
    pub fn of(isa: Isa) -> Self {
        match isa {
            Isa::Scalar => Self::Scalar,
            // Conversion of halves came with the processors before AVX2.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if is_x86_feature_detected!("f16c") => Self::Avx2,
            Isa::Avx2 => Self::Scalar,
            _ if Isa::Avx512.is_available() => Self::Avx512,
            _ => Self::Scalar,
        }
    }
}

/// A product of some rows with some panels.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// Line of the first row in the first block of steps.
    pub left: *const f32,
    /// Floats from one block of steps to the next.
    pub left_block: usize,
    /// Where the first panel of each block of 16 steps starts.
    pub right: &'a [*const u8],
    /// Elements from one panel to the next.
    pub right_panel: usize,
    /// Whether the right side holds halves instead of floats.
    pub half: bool,
    /// Line of the first row in the first panel.
    pub out: *mut f32,
    /// Floats from one panel to the next.
    pub out_panel: usize,
    /// First step; may be inside of the first block.
    pub first: usize,
    pub steps: usize,
    /// Whether the chains go on from what is in `out`.
    pub accumulate: bool,
}

/// Computes `rows` (at most `tile_rows`) neighbouring rows of panels `panels`.
///
/// # Safety
/// All that the shape names is inside live memory, `out` is used by nobody else, and halves come only with vectors.
#[inline]
pub unsafe fn product(family: Family, rows: usize, panels: Range<usize>, product: &Product<'_>) {
    let (most_rows, most_panels) = shape(family, rows);
    debug_assert!(rows <= most_rows);
    let size = if product.half { 2 } else { 4 };
    let mut panel = panels.start;
    while panel < panels.end {
        let tile = Tile {
            left: product.left,
            left_block: product.left_block,
            right: product.right.as_ptr(),
            right_offset: panel * product.right_panel * size,
            right_panel: product.right_panel,
            out: product.out.add(panel * product.out_panel),
            out_panel: product.out_panel,
            first: product.first,
            steps: product.steps,
            accumulate: product.accumulate,
        };
        run(family, rows, most_panels.min(panels.end - panel), product.half, &tile);
        panel += most_panels;
    }
}

/// Rows of the tallest tile: callers that choose their rows do well with multiples of it.
pub fn tile_rows(family: Family) -> usize {
    shape(family, usize::MAX).0
}

/// Rows and panels of a tile: as many as the registers hold.
fn shape(family: Family, rows: usize) -> (usize, usize) {
    match (family, rows) {
        (Family::Avx512, 0..=6) => (6, 4),
        (Family::Avx512, _) => (12, 2),
        (Family::Avx2, 0..=3) => (3, 2),
        (Family::Avx2, _) => (6, 1),
        (Family::Scalar, _) => (4, 1),
    }
}

struct Tile {
    left: *const f32,
    left_block: usize,
    right: *const *const u8,
    /// Bytes from the start of a block to the first panel of the tile.
    right_offset: usize,
    right_panel: usize,
    out: *mut f32,
    out_panel: usize,
    first: usize,
    steps: usize,
    accumulate: bool,
}

macro_rules! by_rows {
    ($tile:ident, $rows:expr, $panels:literal, $half:literal, $arguments:expr, [$($r:literal)*]) => {
        match $rows {
            $($r => $tile::<$r, $panels, $half>($arguments),)*
            _ => unreachable!("tile rows"),
        }
    };
}

unsafe fn run(family: Family, rows: usize, panels: usize, half: bool, tile: &Tile) {
    match family {
        #[cfg(target_arch = "x86_64")]
        Family::Avx512 => match (panels, half) {
            (1, false) => by_rows!(tile_avx512, rows, 1, false, tile, [1 2 3 4 5 6 7 8 9 10 11 12]),
            (1, true) => by_rows!(tile_avx512, rows, 1, true, tile, [1 2 3 4 5 6 7 8 9 10 11 12]),
            (2, false) => by_rows!(tile_avx512, rows, 2, false, tile, [1 2 3 4 5 6 7 8 9 10 11 12]),
            (2, true) => by_rows!(tile_avx512, rows, 2, true, tile, [1 2 3 4 5 6 7 8 9 10 11 12]),
            (3, false) => by_rows!(tile_avx512, rows, 3, false, tile, [1 2 3 4 5 6]),
            (3, true) => by_rows!(tile_avx512, rows, 3, true, tile, [1 2 3 4 5 6]),
            (_, false) => by_rows!(tile_avx512, rows, 4, false, tile, [1 2 3 4 5 6]),
            (_, true) => by_rows!(tile_avx512, rows, 4, true, tile, [1 2 3 4 5 6]),
        },
        #[cfg(target_arch = "x86_64")]
        Family::Avx2 => match (panels, half) {
            (1, false) => by_rows!(tile_avx2, rows, 1, false, tile, [1 2 3 4 5 6]),
            (1, true) => by_rows!(tile_avx2, rows, 1, true, tile, [1 2 3 4 5 6]),
            (_, false) => by_rows!(tile_avx2, rows, 2, false, tile, [1 2 3]),
            (_, true) => by_rows!(tile_avx2, rows, 2, true, tile, [1 2 3]),
        },
        _ => by_rows!(tile_scalar, rows, 1, false, tile, [1 2 3 4]),
    }
}

/// The reference: what every other tile must equal bit by bit.
unsafe fn tile_scalar<const R: usize, const P: usize, const HALF: bool>(tile: &Tile) {
    for row in 0..R {
        let out = &mut *tile.out.add(row * PANEL).cast::<[f32; PANEL]>();
        let mut sums = if tile.accumulate { *out } else { [0.0; PANEL] };
        for step in tile.first..tile.first + tile.steps {
            let (block, lane) = (step / PANEL, step % PANEL);
            let left = *tile.left.add(block * tile.left_block + row * PANEL + lane);
            let right = (*tile.right.add(block)).add(tile.right_offset).cast::<[f32; PANEL]>();
            for (sum, right) in sums.iter_mut().zip(&*right.add(lane)) {
                *sum = left.mul_add(*right, *sum);
            }
        }
        *out = sums;
    }
}

macro_rules! vector_tile {
    ($name:ident, $features:literal, $vector:ty, $width:literal, $zero:ident, $load:ident, $store:ident, $splat:ident,
     $fma:ident, $load_half:expr) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize, const P: usize, const HALF: bool>(tile: &Tile) {
            use std::arch::x86_64::*;
            const PER: usize = PANEL / $width;
            let size = if HALF { 2 } else { 4 };
            let mut sums: [[[$vector; PER]; P]; R] = [[[$zero(); PER]; P]; R];
            if tile.accumulate {
                for row in 0..R {
                    for panel in 0..P {
                        for part in 0..PER {
                            let from = tile.out.add(panel * tile.out_panel + row * PANEL + part * $width);
                            sums[row][panel][part] = $load(from);
                        }
                    }
                }
            }
            let mut right_block = tile.right.add(tile.first / PANEL);
            let mut lane = tile.first % PANEL;
            let mut left_block = tile.left.add(tile.first / PANEL * tile.left_block);
            let mut steps = tile.steps;
            while steps > 0 {
                let count = steps.min(PANEL - lane);
                let mut left = left_block.add(lane);
                let mut right = (*right_block).add(tile.right_offset + lane * PANEL * size);
                for _ in 0..count {
                    let mut line: [[$vector; PER]; P] = [[$zero(); PER]; P];
                    for panel in 0..P {
                        for part in 0..PER {
                            let from = right.add((panel * tile.right_panel + part * $width) * size);
                            line[panel][part] = if HALF { $load_half(from) } else { $load(from.cast()) };
                        }
                    }
                    for row in 0..R {
                        let left = $splat(*left.add(row * PANEL));
                        for panel in 0..P {
                            for part in 0..PER {
                                sums[row][panel][part] = $fma(left, line[panel][part], sums[row][panel][part]);
                            }
                        }
                    }
                    left = left.wrapping_add(1);
                    right = right.wrapping_add(PANEL * size);
                }
                steps -= count;
                lane = 0;
                left_block = left_block.wrapping_add(tile.left_block);
                right_block = right_block.wrapping_add(1);
            }
            for row in 0..R {
                for panel in 0..P {
                    for part in 0..PER {
                        let to = tile.out.add(panel * tile.out_panel + row * PANEL + part * $width);
                        $store(to, sums[row][panel][part]);
                    }
                }
            }
        }
    };
}

vector_tile!(
    tile_avx2,
    "avx2,fma,f16c",
    __m256,
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    |from: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(from.cast()))
);
vector_tile!(
    tile_avx512,
    "avx512f,avx512vl,avx512dq,avx512bw",
    __m512,
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    |from: *const u8| _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
);
