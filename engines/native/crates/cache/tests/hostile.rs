//! Shapes that are bad for a tree: very deep, very wide, and both under pressure. Sizes are chosen so that work
//! growing with the square of the size would take minutes.

use cupel_cache::{Cursor, PrefixCache, PAGE};

#[test]
fn a_sequence_of_a_hundred_thousand_tokens_grows_token_by_token_and_is_evicted_again() {
    let length = 100_000usize;
    let sequence: Vec<u32> = (0..length as u32).map(|i| i % 5).collect();
    let mut cache = PrefixCache::new(length.div_ceil(PAGE));
    let pages = cache.allocate(cache.capacity()).unwrap();
    let mut cursor = Cursor::new(0);
    for now in 1..=length {
        cache.insert_at(&mut cursor, &sequence[..now], &pages);
    }
    cache.verify().unwrap();
    cache.insert(0, &sequence, &pages);
    cache.release(&pages);
    for _ in 0..20 {
        let found = cache.find(0, &sequence);
        assert_eq!(found.tokens(), length);
        cache.release(&found.pages);
        let reversed: Vec<u32> = found.pages.iter().rev().copied().collect();
        reversed.iter().for_each(|&page| cache.retain(page));
        reversed.iter().for_each(|&page| cache.release(&[page]));
    }
    assert_eq!(cache.available(), cache.capacity());
    let mut again = cache.allocate(cache.capacity()).unwrap();
    assert_eq!(again, pages.iter().rev().copied().collect::<Vec<u32>>(), "leaves go first");
    again.sort_unstable();
    again.dedup();
    assert_eq!(again.len(), cache.capacity());
    cache.verify().unwrap();
}

#[test]
fn thousands_of_children_of_one_page_are_told_apart_and_evicted_in_order() {
    let children = 20_000u32;
    let mut cache = PrefixCache::new(children as usize + 1);
    let root = cache.allocate(1).unwrap()[0];
    // All blocks agree in their first 30 tokens; the order of arrival is scattered.
    let sequence = |child: u32| {
        let mut tokens = vec![7; 2 * PAGE];
        tokens[2 * PAGE - 2] = child / 100;
        tokens[2 * PAGE - 1] = child % 100;
        tokens
    };
    let arrival = |i: u32| (i * 7919) % children;
    let mut pages = vec![];
    for i in 0..children {
        let page = cache.allocate(1).unwrap()[0];
        cache.insert(0, &sequence(arrival(i)), &[root, page]);
        pages.push(page);
    }
    cache.verify().unwrap();
    for i in 0..children {
        let found = cache.find(0, &sequence(arrival(i)));
        assert_eq!(found.pages, [root, pages[i as usize]]);
        cache.release(&found.pages);
    }
    let mut stranger = sequence(children + 1);
    stranger[2 * PAGE - 3] = 8;
    let found = cache.find(0, &stranger);
    assert_eq!(found.tokens(), 2 * PAGE - 3);
    cache.release(&found.pages);
    cache.release(&[found.partial.unwrap().0]);
    cache.release(&pages);
    assert_eq!(cache.allocate(children as usize).unwrap().len(), children as usize);
    assert_eq!(cache.available(), 0, "the parent is still held");
    cache.release(&[root]);
    assert_eq!(cache.available(), 1);
    cache.verify().unwrap();
}

#[test]
fn thousands_of_sequences_pass_through_a_small_cache() {
    let mut cache = PrefixCache::new(64);
    for round in 0..20_000u32 {
        let tokens: Vec<u32> = (0..200).map(|i| if i < 100 { i % 3 } else { round % 700 + i }).collect();
        let found = cache.find(0, &tokens);
        let own = cache.allocate(tokens.len().div_ceil(PAGE) - found.pages.len()).unwrap();
        if let Some((page, _)) = found.partial {
            cache.release(&[page]);
        }
        let pages: Vec<u32> = found.pages.into_iter().chain(own).collect();
        let mut cursor = found.cursor;
        cache.insert_at(&mut cursor, &tokens, &pages);
        cache.release(&pages);
    }
    cache.verify().unwrap();
    assert_eq!(cache.available(), 64);
    let counts = cache.statistics();
    assert!(counts.tokens_hit * 100 / counts.tokens_asked >= 48, "the shared beginning survives the pressure");
}
