//! The memory of pages.

use cupel_attention::{attend, KvStore, KvType, Plan, Scratch, SequenceRows};
use cupel_kernels::{Isa, Out};

use crate::world::Numbers;

#[test]
fn a_copied_page_is_read_like_its_source_and_memory_grows_with_reserved_pages() {
    let mut store = KvStore::new(30, 3, 64, KvType::F16, 100);
    assert_eq!(store.bytes(), 0);
    store.reserve(&[0, 99]).unwrap();
    let bytes = store.bytes();
    assert!(bytes > 0 && bytes < 20 * KvStore::page_bytes(30, 3, 64, KvType::F16));
    let numbers = &mut Numbers(9);
    for slot in 0..20 {
        // SAFETY: nobody else uses the store.
        unsafe { store.append(29, 2, 0, slot, &numbers.row(64), &numbers.row(64)) };
    }
    store.copy(0, 99);
    let queries = numbers.row(3 * 64);
    let mut results = [vec![0.0f32; 64 * 3], vec![0.0f32; 64 * 3]];
    for (page, results) in [0u32, 99].into_iter().zip(&mut results) {
        let pages = [page];
        let plan = Plan::build(&[SequenceRows { pages: &pages, before: 19, rows: 1, first_row: 0 }], None);
        let mut scratch = Scratch::default();
        let out = Out::new(results, 64 * 3);
        // SAFETY: one call at a time.
        unsafe { attend(Isa::detect(), &store, 29, 2, &plan, 0, 1, &queries, 0, 0, out, 0, &mut scratch) };
    }
    assert_eq!(results[0], results[1]);
    assert!(results[0][..64].iter().any(|value| *value != 0.0) || results[0][128..].iter().any(|value| *value != 0.0));
}

#[test]
fn memory_that_does_not_exist_is_an_error() {
    let mut store = KvStore::new(1 << 20, 1 << 16, 128, KvType::F16, 4);
    let error = store.reserve(&[2]).unwrap_err();
    assert!(error.bytes >= 1 << 50 && error.to_string().contains("no memory"));
    assert_eq!(store.bytes(), 0);
}
