//! Files that lie: each is refused with its code, and none makes the reader take more memory than the file has bytes.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use common::fuzz::{corpus_config, Corpus};
use cupel_files::safetensors::Header;
use cupel_files::{Gguf, Source};

/// Notes the largest single request of the thread at work.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

/// Room for messages and the like.
const SMALL: usize = 4096;

/// Code of opening a GGUF file, "" where it opens; fails where an allocation exceeds the file.
fn gguf_code(bytes: &[u8]) -> &'static str {
    let copy = bytes.to_vec();
    LARGEST.set(0);
    let result = Gguf::from_bytes(copy, Path::new("x.gguf"));
    let largest = LARGEST.get();
    assert!(largest <= bytes.len() + SMALL, "{largest} bytes for a file of {}", bytes.len());
    result.err().map_or("", |error| {
        assert!(error.place.as_deref().is_some_and(|place| place.starts_with("x.gguf")), "{error}");
        error.code
    })
}

fn safetensors_code(bytes: &[u8]) -> &'static str {
    LARGEST.set(0);
    let result = Header::of_file(bytes);
    let largest = LARGEST.get();
    assert!(largest <= bytes.len() + SMALL, "{largest} bytes for a file of {}", bytes.len());
    result.err().map_or("", |error| error.code)
}

const INVALID: &str = "CUPEL_NATIVE_GGUF_INVALID";
const TRUNCATED: &str = "CUPEL_NATIVE_GGUF_TRUNCATED";

/// A file from its pieces.
struct File(Vec<u8>);

impl File {
    fn new(tensors: u64, keys: u64) -> Self {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(keys.to_le_bytes());
        Self(bytes)
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(mut self, text: &[u8]) -> Self {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text);
        self
    }

    fn tensor(self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let file = self.text(name.as_bytes()).u32(shape.len() as u32);
        shape.iter().fold(file, |file, size| file.u64(*size)).u32(kind).u64(offset)
    }

    /// Padding to the data and `count` bytes of it.
    fn data(mut self, count: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + count, 0);
        self
    }

    fn code(&self) -> &'static str {
        gguf_code(&self.0)
    }
}

#[test]
fn lying_gguf_files_are_refused() {
    assert_eq!(File::new(0, 0).code(), "");
    assert_eq!(File::new(1, 0).tensor("a", &[8], 0, 0).data(32).code(), "");
    assert_eq!(File::new(1, 0).tensor("a", &[32, 2], 2, 0).data(36).code(), "");
    let mut old = File::new(0, 0);
    old.0[4] = 1;
    let mut turned = File::new(0, 0);
    turned.0[4..8].copy_from_slice(&[0, 0, 0, 3]);
    for (what, file, code) in [
        ("nothing", File(vec![]), TRUNCATED),
        ("half a magic", File(b"GG".to_vec()), TRUNCATED),
        ("other magic", File(b"GGML\x03\0\0\0".to_vec()), INVALID),
        ("version 1", old, INVALID),
        ("big-endian", turned, INVALID),
        ("no counts", File(b"GGUF\x03\0\0\0".to_vec()), TRUNCATED),
        ("tensors without end", File::new(u64::MAX, 0), INVALID),
        ("keys without end", File::new(0, u64::MAX), INVALID),
        ("more tensors than bytes", File::new(10_000, 0), TRUNCATED),
        ("more keys than bytes", File::new(0, 10_000), TRUNCATED),
        ("long key", File::new(0, 1).u64(u64::MAX).u64(0), TRUNCATED),
        ("empty key", File::new(0, 1).text(b"").u32(4).u32(7), INVALID),
        ("key of no UTF-8", File::new(0, 1).text(b"\xff\xfe").u32(4).u32(7), INVALID),
        ("unknown value type", File::new(0, 1).text(b"a").u32(13).u64(7), INVALID),
        ("long text", File::new(0, 1).text(b"a").u32(8).u64(1 << 40), TRUNCATED),
        ("long list", File::new(0, 1).text(b"a").u32(9).u32(4).u64(u64::MAX), TRUNCATED),
        ("long list of texts", File::new(0, 1).text(b"a").u32(9).u32(8).u64(1 << 40), TRUNCATED),
        ("list of lists", File::new(0, 1).text(b"a").u32(9).u32(9).u64(1).u32(4).u64(0), INVALID),
        ("key twice", File::new(0, 2).text(b"a").u32(4).u32(1).text(b"a").u32(4).u32(2), INVALID),
        ("alignment 0", File::new(0, 1).text(b"general.alignment").u32(4).u32(0), INVALID),
        ("alignment 24", File::new(0, 1).text(b"general.alignment").u32(4).u32(24), INVALID),
        ("alignment 2^31", File::new(0, 1).text(b"general.alignment").u32(4).u32(1 << 31), INVALID),
        ("alignment of text", File::new(0, 1).text(b"general.alignment").u32(8).text(b"32"), INVALID),
        ("no dimension", File::new(1, 0).tensor("a", &[], 0, 0).data(32), INVALID),
        ("five dimensions", File::new(1, 0).tensor("a", &[1; 5], 0, 0).data(32), INVALID),
        ("dimension 0", File::new(1, 0).tensor("a", &[0], 0, 0).data(32), INVALID),
        ("product beyond 64 bits", File::new(1, 0).tensor("a", &[1 << 33, 1 << 33], 0, 0).data(32), INVALID),
        ("bytes beyond 64 bits", File::new(1, 0).tensor("a", &[1 << 62, 2], 0, 0).data(32), INVALID),
        ("end beyond 64 bits", File::new(1, 0).tensor("a", &[1 << 61], 0, u64::MAX - 31).data(32), INVALID),
        ("half a block", File::new(1, 0).tensor("a", &[16], 2, 0).data(32), INVALID),
        ("unknown type", File::new(1, 0).tensor("a", &[8], 99, 0).data(32), INVALID),
        ("odd offset", File::new(1, 0).tensor("a", &[8], 0, 4).data(64), INVALID),
        ("offset past the end", File::new(1, 0).tensor("a", &[8], 0, 64).data(64), TRUNCATED),
        ("a byte short", File::new(1, 0).tensor("a", &[8], 0, 0).data(31), TRUNCATED),
        ("overlap", File::new(2, 0).tensor("a", &[16], 0, 0).tensor("b", &[8], 0, 32).data(64), INVALID),
        ("same place", File::new(2, 0).tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 0).data(64), INVALID),
        ("tensor twice", File::new(2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32).data(64), INVALID),
        ("empty name", File::new(1, 0).tensor("", &[8], 0, 0).data(32), INVALID),
        ("endless name", File::new(1, 0).tensor(&"a".repeat(257), &[8], 0, 0).data(32), INVALID),
    ] {
        assert_eq!(file.code(), code, "{what}");
    }
}

#[test]
fn every_truncation_of_a_good_file_is_refused() {
    let corpus = Corpus::read();
    for bytes in &corpus.gguf {
        // The last tensor may be followed by padding, which nobody needs.
        for length in 0..bytes.len() - 32 {
            assert_ne!(gguf_code(&bytes[..length]), "", "{length}");
        }
    }
    for bytes in &corpus.safetensors {
        for length in 0..bytes.len() {
            assert!(safetensors_code(&bytes[..length]).starts_with("CUPEL_NATIVE_SAFETENSORS_"), "{length}");
        }
    }
}

#[test]
fn files_full_of_entries_take_less_memory_than_they_have_bytes() {
    let keys = 60_000;
    let file = (0..keys).fold(File::new(0, keys), |file, key| {
        let mut file = file.text(format!("{key:x}").as_bytes()).u32(0);
        file.0.push(1);
        file
    });
    assert_eq!(file.code(), "");
    let tensors = 20_000;
    let file = (0..tensors)
        .fold(File::new(tensors, 0), |file, number| file.tensor(&format!("{number:x}"), &[1], 24, number * 32));
    assert_eq!(file.data(tensors as usize * 32).code(), "");
    let entry = |number: usize| format!(r#""{number:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let header = format!("{{{}}}", (0..50_000).map(entry).collect::<Vec<_>>().join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    assert_eq!(safetensors_code(&bytes), "");
    let values = (0..5_000).map(|number| format!(r#""{number}":"""#)).collect::<Vec<_>>().join(",");
    let header = format!(r#"{{"__metadata__":{{{values}}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    assert_eq!(safetensors_code(&bytes), "CUPEL_NATIVE_SAFETENSORS_INVALID");
}

#[test]
fn entries_that_say_a_thing_twice_are_refused() {
    for entry in [
        r#"{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}"#,
        r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}"#,
        r#"{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}"#,
    ] {
        let header = format!(r#"{{"a":{entry}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.push(0);
        assert_eq!(safetensors_code(&bytes), "CUPEL_NATIVE_SAFETENSORS_INVALID", "{entry}");
    }
}

/// Changes a value of a good GGUF file; `find` is a key, the new bytes come after its type.
fn with_value(file: &[u8], find: &str, value: &[u8]) -> Vec<u8> {
    let at = file.windows(find.len()).position(|part| part == find.as_bytes()).unwrap() + find.len() + 4;
    let mut copy = file.to_vec();
    copy[at..at + value.len()].copy_from_slice(value);
    copy
}

#[test]
fn absurd_or_unsupported_metadata_are_named() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/llama-f32.gguf");
    let good = std::fs::read(path).unwrap();
    let error = |bytes: Vec<u8>| {
        let gguf = Gguf::from_bytes(bytes, Path::new("x.gguf"));
        gguf.and_then(|gguf| Source::from_gguf(gguf, Path::new("x.gguf"))).err().unwrap()
    };
    for (key, value) in [
        ("llama.embedding_length", 64),
        ("llama.block_count", 0),
        ("llama.block_count", 100_000),
        ("llama.attention.head_count", u32::MAX),
        ("llama.attention.head_count_kv", 3),
        ("llama.attention.key_length", 15),
        ("llama.attention.value_length", 8),
        ("llama.rope.dimension_count", 8),
        ("llama.feed_forward_length", u32::MAX),
        ("llama.context_length", 0),
        ("llama.attention.layer_norm_rms_epsilon", f32::NAN.to_bits()),
        ("llama.rope.freq_base", (-1f32).to_bits()),
    ] {
        let error = error(with_value(&good, key, &value.to_le_bytes()));
        assert!(["CUPEL_NATIVE_CONFIG_INVALID", "CUPEL_NATIVE_TENSOR_SHAPE"].contains(&error.code), "{key} {error}");
        assert!(error.place.as_deref().is_some_and(|place| place.starts_with("x.gguf: ")), "{key} {error:?}");
    }
    let other = with_value(&good, "general.architecture", b"\x05\0\0\0\0\0\0\0mamba");
    assert!(error(other).message.contains("\"mamba\""));
    let number = File::new(0, 1).text(b"general.architecture").u32(4).u32(7);
    assert_eq!(error(number.0).code, INVALID);
}

#[test]
fn tensors_of_other_types_or_shapes_are_named() {
    let config = corpus_config();
    let corpus = Corpus::read();
    let open = |bytes: Vec<u8>| {
        let checkpoint = cupel_files::safetensors::Checkpoint::from_bytes(bytes, Path::new("x.safetensors"))?;
        Source::from_checkpoint(&config, checkpoint, Path::new("x"))
    };
    let int8 = corpus.safetensors.iter().find(|bytes| bytes.windows(4).any(|part| part == b"\"I8\"")).unwrap();
    let source = open(int8.clone()).unwrap();
    let name = "model.layers.0.self_attn.q_proj.weight";
    let (_, rows, columns) = source.config().tensors().into_iter().find(|(found, ..)| found == name).unwrap();
    assert!(source.tensor(name, rows, columns).is_ok());
    assert_eq!(source.tensor(name, rows + 1, columns).unwrap_err().code, "CUPEL_NATIVE_TENSOR_SHAPE");
    assert_eq!(source.tensor("model.x", 1, 1).unwrap_err().code, "CUPEL_NATIVE_TENSOR_MISSING");
    let mut unsigned = int8.clone();
    let at = unsigned.windows(4).position(|part| part == b"\"I8\"").unwrap();
    unsigned[at..at + 4].copy_from_slice(b"\"U8\"");
    let source = open(unsigned).unwrap();
    let wrong = source
        .config()
        .tensors()
        .into_iter()
        .filter_map(|(name, rows, columns)| source.tensor(&name, rows, columns).err());
    assert_eq!(wrong.map(|error| error.code).collect::<Vec<_>>(), ["CUPEL_NATIVE_TENSOR_TYPE"]);
    // A GGUF tensor of a type that ggml has and this crate does not read.
    let gguf = corpus.gguf.iter().find(|bytes| bytes.windows(6).any(|part| part == b"qwen2.")).unwrap();
    let mut foreign = gguf.clone();
    let name = b"blk.0.attn_v.weight";
    let at = foreign.windows(name.len()).position(|part| part == name).unwrap() + name.len() + 4 + 16;
    foreign[at..at + 4].copy_from_slice(&20u32.to_le_bytes());
    let source =
        Source::from_gguf(Gguf::from_bytes(foreign, Path::new("x.gguf")).unwrap(), Path::new("x.gguf")).unwrap();
    let error = source.tensor("model.layers.0.self_attn.v_proj.weight", 16, 32).unwrap_err();
    assert_eq!((error.code, error.place.as_deref()), ("CUPEL_NATIVE_TENSOR_TYPE", Some("x.gguf: blk.0.attn_v.weight")));
    assert!(error.message.contains("IQ4_NL"));
}

#[test]
fn empty_files_and_folders_are_refused() {
    let folder = common::Folder::new();
    let code = || Source::open(&folder.0).err().map(|error| error.code);
    assert_eq!(code(), Some("CUPEL_NATIVE_IO"));
    std::fs::write(folder.path("x.gguf"), "").unwrap();
    assert_eq!(code(), Some(TRUNCATED));
    std::fs::remove_file(folder.path("x.gguf")).unwrap();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/config.json"), folder.path("config.json"))
        .unwrap();
    assert_eq!(code(), Some("CUPEL_NATIVE_TENSOR_MISSING"));
    std::fs::write(folder.path("model.safetensors"), "").unwrap();
    assert_eq!(code(), Some("CUPEL_NATIVE_SAFETENSORS_TRUNCATED"));
    std::fs::remove_file(folder.path("config.json")).unwrap();
    assert_eq!(code(), Some("CUPEL_NATIVE_IO"));
}
