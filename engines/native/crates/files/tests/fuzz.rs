//! Mutated files of the committed corpus. `cargo run --release -p cupel-files --example fuzz_files -- 1000000` runs more.

mod common;

use common::fuzz::{corpus_config, gguf, run, safetensors, Corpus};

#[test]
fn the_corpus_itself_is_accepted() {
    let (corpus, config) = (Corpus::read(), corpus_config());
    assert!(corpus.gguf.len() >= 4 && corpus.safetensors.len() >= 3);
    for bytes in corpus.gguf {
        assert!(gguf(bytes).unwrap() > 0);
    }
    for bytes in corpus.safetensors {
        assert!(safetensors(bytes, &config).unwrap() > 0);
    }
}

#[test]
fn mutated_files_open_or_fail_with_a_code() {
    let accepted = run(&Corpus::read(), &corpus_config(), 0, 20_000);
    // Some changes must be harmless and some not, or the mutation does not do what it is for.
    assert!(accepted.iter().all(|count| (1_000..15_000).contains(count)), "{accepted:?}");
}
