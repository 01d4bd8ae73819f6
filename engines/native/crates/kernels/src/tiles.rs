//! Access to the 8-bit tiles of AMX, and the same in plain code. Tile configuration lies in static memory and all tile
//! instructions are inline assembly: a compiler that moves the stores of a configuration built on the stack behind the
//! instruction that reads it makes the processor fault.

use std::arch::asm;
use std::sync::OnceLock;

use super::gemm::PANEL;

/// 16 rows of 16 sums.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(crate) struct Square(pub [[i32; PANEL]; PANEL]);

impl Square {
    pub const ZERO: Self = Self([[0; PANEL]; PANEL]);
}

/// Products of 8-bit tiles.
pub(crate) trait Tiles {
    /// Readies this thread for `block` (true) or `long` (false).
    ///
    /// # Safety
    /// The machine has the tiles, and `release` follows on the same thread.
    unsafe fn configure(for_blocks: bool);

    /// Ends what `configure` began.
    ///
    /// # Safety
    /// As for `configure`.
    unsafe fn release();

    /// `out = a · w` for 16 rows of 32 signed bytes, `stride` apart, and 32 steps of 16 outputs of signed bytes in the
    /// order `[8][16][4]`. `odd` alternates between two sets of registers.
    ///
    /// # Safety
    /// Configured for blocks; the pointers reach that much.
    unsafe fn block(odd: bool, a: *const i8, stride: usize, w: *const i8, out: *mut Square);

    /// `out[2 i + j] = a_i · w_j` for `steps` times 64 steps: 2 times 16 rows of signed bytes, `stride` apart, and two
    /// panels of unsigned bytes `[steps · 16][16][4]` at `w` and `w + next`.
    ///
    /// # Safety
    /// Configured for long products; the pointers reach that much; `steps` is not 0.
    unsafe fn long(a: *const i8, stride: usize, w: *const u8, next: usize, steps: usize, out: *mut [Square; 4]);
}

/// Shapes of the eight tiles: palette, start row, bytes a row, rows.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

const fn configuration(row_bytes: [u16; 8], rows: [u8; 8]) -> Configuration {
    let mut made = Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    let mut tile = 0;
    while tile < 8 {
        made.row_bytes[tile] = row_bytes[tile];
        made.rows[tile] = rows[tile];
        tile += 1;
    }
    made
}

/// Tiles 0 and 1 hold sums, 2 and 3 activations of 32 steps, 4 and 5 weights.
static BLOCKS: Configuration = configuration([64, 64, 32, 32, 64, 64, 0, 0], [16, 16, 16, 16, 8, 8, 0, 0]);
/// Tiles 0 to 3 hold sums, 4 and 5 activations of 64 steps, 6 and 7 weights.
static LONG: Configuration = configuration([64; 8], [16; 8]);

/// Two times two tiles over the whole of `k`: a tile of the left matrix takes 64 bytes a step, one of the right 1024.
macro_rules! long {
    ($dot:literal, $a:ident, $stride:ident, $w:ident, $next:ident, $steps:ident, $out:ident) => {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{a0} + {stride}*1]",
            "tileloadd tmm6, [{w0} + {line}*1]",
            concat!($dot, " tmm0, tmm4, tmm6"),
            "tileloadd tmm7, [{w1} + {line}*1]",
            concat!($dot, " tmm1, tmm4, tmm7"),
            "tileloadd tmm5, [{a1} + {stride}*1]",
            concat!($dot, " tmm2, tmm5, tmm6"),
            concat!($dot, " tmm3, tmm5, tmm7"),
            "add {a0}, 64",
            "add {a1}, 64",
            "add {w0}, 1024",
            "add {w1}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {line}*1], tmm0",
            "tilestored [{out} + {line}*1 + 1024], tmm1",
            "tilestored [{out} + {line}*1 + 2048], tmm2",
            "tilestored [{out} + {line}*1 + 3072], tmm3",
            a0 = inout(reg) $a => _, a1 = inout(reg) $a.add(PANEL * $stride) => _, stride = in(reg) $stride,
            w0 = inout(reg) $w => _, w1 = inout(reg) $w.add($next) => _, line = in(reg) 64usize,
            steps = inout(reg) $steps => _, out = in(reg) $out,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _, options(nostack)
        );
    };
}

/// The tiles of the processor.
pub(crate) struct Hardware;

impl Tiles for Hardware {
    #[inline]
    unsafe fn configure(for_blocks: bool) {
        let configuration: *const Configuration = if for_blocks { &raw const BLOCKS } else { &raw const LONG };
        asm!("ldtilecfg [{0}]", in(reg) configuration, options(nostack, preserves_flags),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _);
    }

    #[inline]
    unsafe fn release() {
        asm!("tilerelease", options(nostack, preserves_flags),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _);
    }

    #[inline(always)]
    unsafe fn block(odd: bool, a: *const i8, stride: usize, w: *const i8, out: *mut Square) {
        if odd {
            asm!(
                "tilezero tmm1",
                "tileloadd tmm3, [{a} + {stride}*1]",
                "tileloadd tmm5, [{w} + {line}*1]",
                "tdpbssd tmm1, tmm3, tmm5",
                "tilestored [{out} + {line}*1], tmm1",
                a = in(reg) a, stride = in(reg) stride, w = in(reg) w, line = in(reg) 64usize, out = in(reg) out,
                out("tmm1") _, out("tmm3") _, out("tmm5") _, options(nostack, preserves_flags)
            );
        } else {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm2, [{a} + {stride}*1]",
                "tileloadd tmm4, [{w} + {line}*1]",
                "tdpbssd tmm0, tmm2, tmm4",
                "tilestored [{out} + {line}*1], tmm0",
                a = in(reg) a, stride = in(reg) stride, w = in(reg) w, line = in(reg) 64usize, out = in(reg) out,
                out("tmm0") _, out("tmm2") _, out("tmm4") _, options(nostack, preserves_flags)
            );
        }
    }

    #[inline]
    unsafe fn long(a: *const i8, stride: usize, w: *const u8, next: usize, steps: usize, out: *mut [Square; 4]) {
        long!("tdpbsud", a, stride, w, next, steps, out);
    }
}

impl Hardware {
    /// As `long`, for 32 steps of bfloat16 instead of 64 of bytes; `out` holds bits of f32.
    ///
    /// # Safety
    /// As for `long`, and the machine has tiles of bfloat16.
    #[inline]
    pub unsafe fn long_bf16(
        a: *const u16,
        stride: usize,
        w: *const u8,
        next: usize,
        steps: usize,
        out: *mut [Square; 4],
    ) {
        let a = a.cast::<i8>();
        long!("tdpbf16ps", a, stride, w, next, steps, out);
    }
}

/// The same in plain code, for machines without tiles and as what the tiles must equal.
pub(crate) struct Plain;

impl Tiles for Plain {
    unsafe fn configure(_: bool) {}

    unsafe fn release() {}

    unsafe fn block(_: bool, a: *const i8, stride: usize, w: *const i8, out: *mut Square) {
        for row in 0..PANEL {
            for column in 0..PANEL {
                (*out).0[row][column] = (0..32)
                    .map(|step| {
                        let weight = *w.add(step / 4 * 64 + column * 4 + step % 4);
                        i32::from(*a.add(row * stride + step)) * i32::from(weight)
                    })
                    .sum();
            }
        }
    }

    unsafe fn long(a: *const i8, stride: usize, w: *const u8, next: usize, steps: usize, out: *mut [Square; 4]) {
        for part in 0..4 {
            let (a, w) = (a.add(part / 2 * PANEL * stride), w.add(part % 2 * next));
            for row in 0..PANEL {
                for column in 0..PANEL {
                    (*out)[part].0[row][column] = (0..steps * 64)
                        .map(|step| {
                            let weight = *w.add(step / 4 * 64 + column * 4 + step % 4);
                            i32::from(*a.add(row * stride + step)) * i32::from(weight)
                        })
                        .sum();
                }
            }
        }
    }
}

/// Whether the processor has 8-bit tiles, the operating system grants them to this process, and they compute what
/// the plain code computes.
pub(crate) fn tiles_work() -> bool {
    // SAFETY: tile instructions run only once they are granted.
    processor_has_tiles() && granted() && unsafe { agree() }
}

fn processor_has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    if __cpuid(0).eax < 7 || __cpuid(1).ecx >> 27 & 1 == 0 {
        return false;
    }
    // AMX-TILE and AMX-INT8.
    let leaf = __cpuid_count(7, 0).edx;
    if leaf >> 24 & 1 == 0 || leaf >> 25 & 1 == 0 {
        return false;
    }
    let low: u32;
    // SAFETY: OSXSAVE was asked for above.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack, preserves_flags)) };
    // The system keeps tile configuration and tile data.
    low >> 17 & 3 == 3
}

#[cfg(target_os = "linux")]
fn granted() -> bool {
    extern "C" {
        fn syscall(number: i64, ...) -> i64;
    }
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    // SAFETY: asks for a permission of this process; on refusal nothing changes.
    unsafe { syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn granted() -> bool {
    false
}

/// # Safety
/// The tiles are there and granted.
unsafe fn agree() -> bool {
    let bytes: Vec<u8> = (0..8192u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    let (a, w) = (bytes.as_ptr().cast::<i8>(), bytes.as_ptr().add(4096));
    let mut by_blocks = [Square::ZERO; 4];
    let mut by_hand = [Square::ZERO; 4];
    Hardware::configure(true);
    for odd in [false, true] {
        Hardware::block(odd, a.add(32), 96, w.cast(), &raw mut by_blocks[usize::from(odd)]);
        Plain::block(odd, a.add(32), 96, w.cast(), &raw mut by_hand[usize::from(odd)]);
    }
    Hardware::release();
    let blocks_agree = by_blocks[0].0 == by_hand[0].0 && by_blocks[1].0 == by_hand[1].0;
    Hardware::configure(false);
    Hardware::long(a, 128, w, 2048, 2, &raw mut by_blocks);
    Hardware::release();
    Plain::long(a, 128, w, 2048, 2, &raw mut by_hand);
    blocks_agree && by_blocks.iter().zip(&by_hand).all(|(tile, plain)| tile.0 == plain.0)
}

/// Whether the processor also has tiles of bfloat16 that compute what is specified; `tiles_work` must hold.
pub(crate) fn bf16_tiles_work() -> bool {
    static WORK: OnceLock<bool> = OnceLock::new();
    *WORK.get_or_init(|| {
        const AMX_BF16: u32 = 22;
        // SAFETY: the tiles were granted, and bfloat16 is asked for first.
        std::arch::x86_64::__cpuid_count(7, 0).edx >> AMX_BF16 & 1 == 1 && unsafe { bf16_agrees() }
    })
}

/// # Safety
/// The tiles are there and granted, those of bfloat16 too.
unsafe fn bf16_agrees() -> bool {
    // Numbers of very different sizes, some so small that products vanish.
    let number = |i: usize| {
        let bits = (i.wrapping_mul(2_654_435_761) >> 9) as u32;
        let exponent = if i.is_multiple_of(5) { 40 + bits % 60 } else { 120 + bits % 16 };
        (bits >> 8 & 0x807f | exponent << 7) as u16
    };
    let a: Vec<u16> = (0..32 * 64).map(number).collect();
    let w: Vec<u16> = (0..2 * 64 * PANEL).map(|i| number(i + 9999)).collect();
    let mut squares = [Square::ZERO; 4];
    Hardware::configure(false);
    Hardware::long_bf16(a.as_ptr(), 128, w.as_ptr().cast(), 64 * PANEL * 2, 2, &raw mut squares);
    Hardware::release();
    (0..32).all(|row| {
        (0..2).all(|panel| {
            let pairs = &w[panel * 64 * PANEL..][..64 * PANEL];
            let pairs = std::slice::from_raw_parts(pairs.as_ptr().cast::<[[u16; 2]; PANEL]>(), 32);
            let sums = super::bf16::by_vectors(super::Isa::Avx512, &a[row * 64..][..64], pairs);
            squares[row / PANEL * 2 + panel].0[row % PANEL] == sums.map(|sum| sum.to_bits() as i32)
        })
    })
}
