//! Nanoseconds per operation of the prefix cache, on shapes as evaluation has them.
//! `cargo run --release -p cupel-cache --example bench_cache`

use std::hint::black_box;
use std::time::Instant;

use cupel_cache::{Cursor, PrefixCache, PAGE};

/// Least of five means, so that a busy neighbour does not count.
fn time(name: &str, operations: usize, mut work: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64() / operations as f64);
    }
    println!("{name:<62} {:>9.1} ns", best * 1e9);
}

fn main() {
    let shared: Vec<u32> = (0..600).collect();
    let own = |index: u32| -> Vec<u32> { shared.iter().copied().chain((0..60).map(|i| index * 64 + i)).collect() };
    let prompts: Vec<Vec<u32>> = (0..200).map(own).collect();
    let mut cache = PrefixCache::new(4000);
    for prompt in &prompts {
        let found = cache.find(0, prompt);
        let mut pages = found.pages.clone();
        pages.extend(cache.allocate(prompt.len().div_ceil(PAGE) - pages.len()).expect("room for 200 prompts"));
        found.partial.iter().for_each(|&(page, _)| cache.release(&[page]));
        cache.insert(0, prompt, &pages);
        cache.release(&pages);
    }

    time("find and release, 660 tokens, 200 prompts on a shared prefix", 200, || {
        for prompt in &prompts {
            let found = cache.find(0, black_box(prompt));
            cache.release(&found.pages);
            found.partial.iter().for_each(|&(page, _)| cache.release(&[page]));
        }
    });
    time("matching, 660 tokens", 200, || {
        for prompt in &prompts {
            black_box(cache.matching(0, black_box(prompt)));
        }
    });
    let found = cache.find(0, &prompts[7]);
    let pages: Vec<u32> = found.pages.iter().copied().chain(found.partial.map(|(page, _)| page)).collect();
    time("insert again, 660 tokens, from the root", 1000, || {
        for _ in 0..1000 {
            cache.insert(0, black_box(&prompts[7]), &pages);
        }
    });

    let sequence: Vec<u32> = (1_000_000..).take(2048).collect();
    let own = cache.allocate(64).expect("64 pages");
    time("insert_at after every token of 2048, per token", 2048, || {
        cache.clear_space(1);
        let mut cursor = Cursor::new(1);
        for length in 1..=sequence.len() {
            cache.insert_at(&mut cursor, black_box(&sequence[..length]), &own);
        }
    });
    cache.release(&own);

    let mut full = PrefixCache::new(4096);
    let mut next = 0u32;
    time("allocate one page by eviction, insert, release (4096 cached)", 4096, || {
        for _ in 0..4096 {
            let page = full.allocate(1).expect("something is evictable");
            next += 1;
            full.insert(0, &[next; PAGE], &page);
            full.release(&page);
        }
    });
    let held = full.allocate(16).expect("16 pages");
    time("retain and release one held page", 1600, || {
        for _ in 0..100 {
            held.iter().for_each(|&page| full.retain(page));
            full.release(&held);
        }
    });
}
