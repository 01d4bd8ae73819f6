//! Speed of the quantized products on one thread, beside what the machine can do:
//! `cargo run --release -p cupel-kernels --example bench_int8 [isa] [kind] [seconds a cell]`.

use std::hint::black_box;
use std::time::Instant;

use cupel_kernels::{
    gemm_block, gemm_channel, gemm_half, BlockKind, BlockPanels, BlockRows, ChannelPanels, HalfKind, HalfPanels, Isa,
    Left, Out, TokenRows,
};

const K: usize = 576;

/// Processor time of this thread in seconds: other processes that take the core away do not count.
#[cfg(target_os = "linux")]
fn now() -> f64 {
    extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    let mut time = [0i64; 2];
    // SAFETY: 3 is CLOCK_THREAD_CPUTIME_ID; a timespec is two 64-bit numbers on 64-bit Linux.
    unsafe { clock_gettime(3, &mut time) };
    time[0] as f64 + time[1] as f64 * 1e-9
}

#[cfg(not(target_os = "linux"))]
fn now() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Shortest run in seconds. Short work is repeated, since the clock is coarse.
fn best(seconds: f64, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    let turns = (1e-3 / start.elapsed().as_secs_f64()).clamp(1.0, 1e4) as usize;
    let mut best = f64::MAX;
    let mut runs = 0;
    while runs < 3 || start.elapsed().as_secs_f64() < seconds {
        let before = now();
        (0..turns).for_each(|_| work());
        best = best.min((now() - before) / turns as f64);
        runs += 1;
    }
    best
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn vnni_loop(turns: usize) -> i32 {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_si512(); 16];
    let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    sums.into_iter().map(|sum| _mm512_reduce_add_epi32(sum)).fold(0, i32::wrapping_add)
}

fn limits(isa: Isa) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Vnni {
        // SAFETY: the machine has the instructions.
        let time = best(0.5, || {
            black_box(unsafe { vnni_loop(100_000) });
        });
        println!("peak of 8-bit dot products from registers {:.0} GOPS", 100_000.0 * 16.0 * 128.0 / time / 1e9);
    }
    for mebibytes in [16, 144, 512] {
        let data = vec![1u64; mebibytes << 17];
        let time = best(0.5, || {
            let mut sums = [0u64; 16];
            for chunk in data.as_chunks::<16>().0 {
                sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
            }
            black_box(sums);
        });
        println!("read of {mebibytes} MiB {:.1} GB/s ({isa:?})", (mebibytes << 20) as f64 / time / 1e9);
    }
}

fn report(name: &str, m: usize, n: usize, bytes: usize, seconds: f64) {
    let gops = 2.0 * (m * n * K) as f64 / seconds / 1e9;
    println!("{name} n={n:6} m={m:4} {gops:8.1} GOPS {:6.1} GB/s of weights", bytes as f64 / seconds / 1e9);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let isa = match arguments.get(1) {
        Some(name) => Isa::ALL.into_iter().find(|isa| isa.name() == name).expect("an instruction set"),
        None => Isa::detect(),
    };
    let only = arguments.get(2).map_or("", String::as_str);
    let seconds: f64 = arguments.get(3).map_or(0.5, |text| text.parse().expect("seconds"));
    assert!(isa.is_available());
    println!("instruction set {}, k={K}", isa.name());
    if only.is_empty() {
        limits(isa);
    }
    let x: Vec<f32> = (0..512 * K).map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 500.0).collect();
    let noise: Vec<u8> =
        (0..49152 * K * 2).map(|i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8 & 0xbf).collect();
    let every = |count: usize, task: &(dyn Fn(usize) + Sync)| (0..count).for_each(task);
    for n in [1536, 49152] {
        let batches: &[usize] = if n == 1536 { &[1, 8, 32, 64, 512] } else { &[1, 8, 32, 64] };
        let mut out = vec![0.0f32; 512 * n];
        for kind in BlockKind::ALL {
            let name = format!("{kind:?}");
            if !(only.is_empty() || only == name) || !K.is_multiple_of(kind.block().0) {
                continue;
            }
            let bytes = kind.row_bytes(K);
            let pack = || BlockPanels::pack(kind, K, n, &|row| &noise[row * bytes..][..bytes], &mut { every });
            let b = pack();
            let time = best(seconds.min(0.2), || drop(black_box(pack())));
            println!("{name} n={n:6} packed in {:.1} ms", time * 1e3);
            let mut a = BlockRows::default();
            for &m in batches {
                a.quantize(isa, &x, K, m, K);
                // SAFETY: one task.
                let time = best(seconds, || unsafe {
                    gemm_block(isa, &a, 0..m, &b, 0..b.panels(), Out::new(&mut out, n), false)
                });
                report(&name, m, n, b.bytes(), time);
            }
        }
        let mut a = TokenRows::default();
        if only.is_empty() || only == "channel" {
            let b = ChannelPanels::pack(K, n, &|row| &noise[row * K..][..K], &|_| 0.01, &mut { every });
            for &m in batches {
                a.quantize(isa, &x, K, m, K);
                // SAFETY: one task.
                let time = best(seconds, || unsafe {
                    gemm_channel(isa, &a, 0..m, &b, 0..b.panels(), Out::new(&mut out, n), false)
                });
                report("channel", m, n, b.bytes(), time);
            }
        }
        for kind in [HalfKind::F16, HalfKind::Bf16] {
            let name = format!("{kind:?}");
            if only.is_empty() || only == name {
                let b = HalfPanels::pack(kind, K, n, &|row| &noise[row * K * 2..][..K * 2], &mut { every });
                for &m in batches {
                    // SAFETY: one task.
                    let time = best(seconds, || unsafe {
                        gemm_half(isa, Left::rows(&x, K), 0..m, &b, 0..b.panels(), Out::new(&mut out, n), false)
                    });
                    report(&name, m, n, b.bytes(), time);
                }
            }
        }
    }
    let mut a = BlockRows::default();
    let time = best(seconds, || a.quantize(isa, &x, K, 512, K));
    println!("quantizing 512 rows {:.1} us", time * 1e6);
}
