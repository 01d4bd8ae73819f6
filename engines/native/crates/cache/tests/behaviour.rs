//! Single rules of the cache, one at a time.

use cupel_cache::{Cursor, PrefixCache, PAGE};

fn tokens(from: u32, count: usize) -> Vec<u32> {
    (from..).take(count).collect()
}

/// A cache in which one finished sequence has left its pages.
fn with(capacity: usize, space: u32, sequence: &[u32]) -> (PrefixCache, Vec<u32>) {
    let mut cache = PrefixCache::new(capacity);
    let pages = leave(&mut cache, space, sequence);
    (cache, pages)
}

fn leave(cache: &mut PrefixCache, space: u32, sequence: &[u32]) -> Vec<u32> {
    let pages = cache.allocate(sequence.len().div_ceil(PAGE)).unwrap();
    cache.insert(space, sequence, &pages);
    cache.release(&pages);
    pages
}

#[test]
fn a_sequence_is_found_by_whole_pages_and_the_beginning_of_the_next() {
    let sequence = tokens(0, 80);
    let (mut cache, pages) = with(8, 0, &sequence);
    let found = cache.find(0, &sequence);
    assert_eq!((found.pages.as_slice(), found.partial), (&pages[..2], Some((pages[2], 16))));
    let shorter = cache.find(0, &sequence[..63]);
    assert_eq!((shorter.pages.as_slice(), shorter.partial), (&pages[..1], Some((pages[1], 31))));
    let whole = cache.find(0, &sequence[..64]);
    assert_eq!((whole.pages.as_slice(), whole.partial), (&pages[..2], None));
    assert_eq!(cache.references(pages[0]), 3);
    cache.verify().unwrap();
}

#[test]
fn spaces_do_not_see_each_other() {
    let (mut cache, _) = with(8, 3, &tokens(0, 64));
    assert_eq!(cache.find(4, &tokens(0, 64)).tokens(), 0);
    assert_eq!(cache.find(3, &tokens(0, 64)).tokens(), 64);
    cache.clear_space(4);
    assert_eq!(cache.matching(3, &tokens(0, 64)), 64);
}

#[test]
fn empty_sequences_and_an_empty_cache_are_ordinary() {
    let mut cache = PrefixCache::new(0);
    assert_eq!(cache.find(0, &[]).tokens(), 0);
    cache.insert(0, &[], &[]);
    assert_eq!(cache.allocate(0), Some(vec![]));
    assert_eq!(cache.allocate(1), None);
    assert_eq!((cache.available(), cache.capacity()), (0, 0));
    cache.clear();
    cache.verify().unwrap();
}

#[test]
fn an_allocation_that_does_not_fit_evicts_nothing() {
    let (mut cache, pages) = with(4, 0, &tokens(0, 128));
    let found = cache.find(0, &tokens(0, 32));
    assert_eq!(cache.available(), 3);
    assert_eq!(cache.allocate(4), None);
    assert_eq!(cache.statistics().evictions, 0);
    assert!(pages.iter().all(|&page| cache.is_cached(page)));
    cache.release(&found.pages);
    assert_eq!(cache.available(), 4);
}

#[test]
fn the_least_recently_used_leaf_goes_first_and_never_an_ancestor_of_a_used_page() {
    let mut cache = PrefixCache::new(4);
    let old = leave(&mut cache, 0, &tokens(0, 64));
    let new = leave(&mut cache, 0, &tokens(1000, 64));
    let found = cache.find(0, &tokens(0, 64));
    cache.release(&found.pages);
    assert_eq!(cache.allocate(1), Some(vec![new[1]]), "the other sequence was found later");
    assert_eq!(cache.allocate(1), Some(vec![new[0]]), "its parent is a leaf now and older");
    let found = cache.find(0, &tokens(0, 64));
    cache.release(&found.pages[..1]);
    assert_eq!(cache.references(old[0]), 0);
    assert_eq!(cache.available(), 0, "the first page carries one that is in use");
    assert_eq!(cache.allocate(1), None);
    cache.release(&found.pages[1..]);
    assert_eq!(cache.available(), 2);
    cache.verify().unwrap();
}

#[test]
fn the_holder_of_a_part_full_page_appends_and_inserts_it_again() {
    let mut cache = PrefixCache::new(4);
    let pages = cache.allocate(2).unwrap();
    let sequence = tokens(0, 64);
    let mut cursor = Cursor::new(0);
    for length in 1..=64 {
        cache.insert_at(&mut cursor, &sequence[..length], &pages);
        assert_eq!(cache.matching(0, &sequence), length);
        assert_eq!(cursor.pages(), length / PAGE);
    }
    assert_eq!((cache.statistics().inserted, cache.statistics().superseded), (2, 0));
    cache.verify().unwrap();
}

#[test]
fn a_fuller_page_takes_the_place_of_another_sequences_part_full_one() {
    let (mut cache, short) = with(4, 0, &tokens(0, 10));
    let longer = leave(&mut cache, 0, &tokens(0, 20));
    assert!(!cache.is_cached(short[0]) && cache.is_cached(longer[0]));
    assert_eq!(cache.available(), 4);
    assert_eq!(cache.statistics().free_pages, 3);
    let again = leave(&mut cache, 0, &tokens(0, 15));
    assert!(!cache.is_cached(again[0]), "the tree answers these tokens already");
    cache.verify().unwrap();
}

#[test]
fn a_superseded_page_stays_its_holders_until_released() {
    let mut cache = PrefixCache::new(2);
    let short = cache.allocate(1).unwrap();
    cache.insert(0, &tokens(0, 10), &short);
    leave(&mut cache, 0, &tokens(0, 32));
    assert_eq!((cache.references(short[0]), cache.is_cached(short[0])), (1, false));
    assert_eq!(cache.available(), 1);
    cache.release(&short);
    assert_eq!(cache.available(), 2);
}

#[test]
fn equal_pages_computed_twice_are_exchanged_for_the_trees() {
    let mut cache = PrefixCache::new(8);
    let sequence = tokens(0, 100);
    let first = cache.allocate(4).unwrap();
    let mut second = cache.allocate(4).unwrap();
    cache.insert(0, &sequence, &first);
    let own = second[3];
    let mut cursor = Cursor::new(0);
    assert_eq!(cache.share_at(&mut cursor, &sequence, &mut second), 3);
    assert_eq!(second, [first[0], first[1], first[2], own]);
    assert_eq!((cache.references(first[0]), cache.available()), (2, 3));
    assert_eq!(cache.share_at(&mut cursor, &sequence, &mut second), 0);
    cache.release(&second);
    cache.release(&first);
    assert_eq!(cache.available(), 8);
    cache.verify().unwrap();
}

#[test]
fn a_stale_cursor_walks_from_the_root() {
    let sequence = tokens(0, 64);
    let (mut cache, _) = with(2, 0, &sequence);
    let found = cache.find(0, &sequence);
    let mut cursor = found.cursor;
    cache.clear();
    cache.insert_at(&mut cursor, &sequence, &found.pages);
    assert_eq!((cursor.pages(), cache.matching(0, &sequence)), (2, 64));
    cache.release(&found.pages);
    cache.verify().unwrap();
}

#[test]
fn clearing_keeps_referenced_pages_with_their_holders() {
    let (mut cache, pages) = with(4, 0, &tokens(0, 96));
    let found = cache.find(0, &tokens(0, 64));
    cache.clear();
    assert_eq!((cache.matching(0, &tokens(0, 96)), cache.available()), (0, 2));
    assert!(cache.references(pages[1]) == 1 && !cache.is_cached(pages[1]));
    cache.release(&found.pages);
    assert_eq!(cache.available(), 4);
    cache.verify().unwrap();
}

#[test]
fn broken_promises_are_named() {
    let refused = |work: fn(&mut PrefixCache)| {
        let mut cache = PrefixCache::new(3);
        let cause = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut cache))).unwrap_err();
        cause.downcast_ref::<String>().unwrap().clone()
    };
    assert_eq!(refused(|cache| cache.release(&[1])), "page 1 is released without a reference");
    assert_eq!(refused(|cache| cache.retain(7)), "page 7 is retained while it is free");
    assert_eq!(refused(|cache| cache.insert(0, &[1; 33], &[0])), "33 tokens are inserted with 1 pages");
    let elsewhere = "page 0 is inserted while it is free or cached at another place";
    assert_eq!(refused(|cache| cache.insert(0, &[1], &[0])), elsewhere);
    let twice = |cache: &mut PrefixCache| {
        let pages = cache.allocate(1).unwrap();
        cache.insert(0, &[1, 2], &pages);
        cache.insert(0, &[2], &pages);
    };
    assert_eq!(refused(twice), elsewhere);
    let given_back = |cache: &mut PrefixCache| {
        let pages = leave(cache, 0, &[1, 2]);
        cache.insert(0, &[1, 2, 3], &pages);
    };
    assert_eq!(refused(given_back), "page 0 is extended without a reference");
}
