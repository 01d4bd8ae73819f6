//! What the machine can do at most, for the benches to be judged by: reading of memory, int8 products and f32 products
//! in registers. Prints one JSON object a thread count; the counts are the arguments, or 1 and 2.
//!
//! Best of several short windows, so that other work on the machine lowers the figures little.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

const WINDOWS: usize = 300;
const WINDOW: Duration = Duration::from_millis(1);
/// About the bytes of the bench's Q8_0 model, so that a part of it may stay in the caches as the model's does.
const READ_BYTES: usize = 144 << 20;
/// Words of one repetition of reading: 1 MiB.
const PIECE: usize = 1 << 17;

/// Repetition `.1` of the work on thread `.0`; returns how many bytes or operations it was.
type Work<'a> = dyn Fn(usize, usize) -> f64 + Sync + 'a;

fn main() {
    let asked: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let counts = if asked.is_empty() { vec![1, 2] } else { asked };
    for threads in counts.into_iter().filter(|count| (1..=1024).contains(count)) {
        let words = READ_BYTES / 8 / threads;
        let memory: Vec<Vec<u64>> = (0..threads).map(|thread| vec![thread as u64 + 1; words]).collect();
        let read = best(threads, &|thread, repetition| {
            let words = &memory[thread];
            let start = repetition % (words.len() / PIECE).max(1) * PIECE;
            read_all(&words[start..words.len().min(start + PIECE)])
        });
        let (unit, int8) = integer_unit();
        let int8 = int8.map(|repeat| best(threads, &|_, _| repeat()));
        let f32 = float_unit().map(|repeat| best(threads, &|_, _| repeat()));
        println!(
            "{{\"threads\":{threads},\"readBytesPerSecond\":{},\"int8PerSecond\":{},\"int8Unit\":\"{unit}\",\"f32PerSecond\":{}}}",
            number(Some(read)),
            number(int8),
            number(f32)
        );
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("null".to_owned(), |value| format!("{value:.0}"))
}

/// Highest sum over the threads of work per second in one window.
fn best(threads: usize, work: &Work) -> f64 {
    let barrier = Barrier::new(threads);
    let windows = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut repetition = 0;
                    let rates: Vec<f64> =
                        (0..WINDOWS).map(|_| window(barrier, thread, &mut repetition, work)).collect();
                    rates
                })
            })
            .collect();
        running.into_iter().map(|handle| handle.join().expect("a measuring thread ended early")).collect::<Vec<_>>()
    });
    (0..WINDOWS).map(|index| windows.iter().map(|rates| rates[index]).sum::<f64>()).fold(0.0, f64::max)
}

fn window(barrier: &Barrier, thread: usize, repetition: &mut usize, work: &Work) -> f64 {
    barrier.wait();
    let start = Instant::now();
    let mut done = 0.0;
    while start.elapsed() < WINDOW {
        done += work(thread, *repetition);
        *repetition += 1;
    }
    done / start.elapsed().as_secs_f64()
}

/// Sums all words in several independent lanes; a plain loop that the compiler makes into vector loads.
fn read_all(words: &[u64]) -> f64 {
    let mut lanes = [0u64; 32];
    for chunk in words.chunks_exact(32) {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    black_box(lanes);
    size_of_val(words) as f64
}

/// The fastest int8 unit that this program knows and the machine has; a multiplication and an addition are two operations.
fn integer_unit() -> (&'static str, Option<fn() -> f64>) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512vnni") {
            return ("avx512-vnni", Some(x86::vnni));
        }
        if is_x86_feature_detected!("avx2") {
            return ("avx2", Some(x86::avx2));
        }
    }
    ("unknown", None)
}

fn float_unit() -> Option<fn() -> f64> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return Some(x86::fma_512);
        }
        if is_x86_feature_detected!("fma") {
            return Some(x86::fma_256);
        }
    }
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Products in a row before the clock is read again.
    const ROUNDS: usize = 4096;
    /// Accumulators: enough to hide the latency of the unit.
    const LANES: usize = 16;

    macro_rules! peak {
        ($name:ident, $inner:ident, $feature:literal, $operations:expr, $zero:expr, $step:expr) => {
            pub fn $name() -> f64 {
                // SAFETY: `integer_unit` and `float_unit` hand this function out only where the feature was detected.
                unsafe { $inner() }
            }

            #[target_feature(enable = $feature)]
            fn $inner() -> f64 {
                let (a, b) = black_box(($zero, $zero));
                let mut sums = [$zero; LANES];
                for _ in 0..ROUNDS {
                    for sum in &mut sums {
                        *sum = $step(*sum, a, b);
                    }
                }
                black_box(sums);
                (ROUNDS * LANES * $operations) as f64
            }
        };
    }

    peak!(vnni, vnni_inner, "avx512f,avx512vnni", 128, _mm512_setzero_si512(), |s, a, b| _mm512_dpbusd_epi32(s, a, b));
    peak!(avx2, avx2_inner, "avx2", 64, _mm256_setzero_si256(), |s, a, b| {
        let pairs = _mm256_maddubs_epi16(_mm256_xor_si256(s, a), b);
        _mm256_add_epi32(s, _mm256_madd_epi16(pairs, b))
    });
    peak!(fma_512, fma_512_inner, "avx512f", 32, _mm512_setzero_ps(), |s, a, b| _mm512_fmadd_ps(a, b, s));
    peak!(fma_256, fma_256_inner, "avx2,fma", 16, _mm256_setzero_ps(), |s, a, b| _mm256_fmadd_ps(a, b, s));
}
