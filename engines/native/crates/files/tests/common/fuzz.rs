//! Deterministic mutation of small good files: the parsers must answer with a checkpoint or a coded error.

use std::path::{Path, PathBuf};

use cupel_files::safetensors::Checkpoint;
use cupel_files::{Error, Gguf, Result, Source};
use serde_json::{Map, Value};

/// A generator of numbers from a seed (xorshift64*).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// The good files, with the extension that chooses the parser.
pub struct Corpus {
    pub gguf: Vec<Vec<u8>>,
    pub safetensors: Vec<Vec<u8>>,
}

impl Corpus {
    pub fn read() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let of = |extension: &str| {
            let wanted = paths.iter().filter(|path| path.extension().is_some_and(|found| found == extension));
            wanted.map(|path| std::fs::read(path).unwrap()).collect()
        };
        Self { gguf: of("gguf"), safetensors: of("safetensors") }
    }
}

/// A changed copy of one of the files; equal numbers give equal copies.
pub fn mutate(files: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = files[numbers.below(files.len())].clone();
    for _ in 0..1 + numbers.below(4) {
        let length = bytes.len().max(1);
        // Most of what can go wrong stands in front.
        let place = if numbers.below(4) > 0 { numbers.below(length.min(2048)) } else { numbers.below(length) };
        let special = [0, 1, 2, 7, 8, 31, 32, 255, 256, 0x7fff_ffff, 0xffff_ffff, 1 << 31, 1 << 32, 1 << 62, 1 << 63];
        match numbers.below(9) {
            0 => bytes.truncate(place),
            1 => flip(&mut bytes, place, 1 << numbers.below(8)),
            2 => flip(&mut bytes, place, numbers.next() as u8),
            3 => put(&mut bytes, place, &(special[numbers.below(special.len())] as u32).to_le_bytes()),
            4 => put(&mut bytes, place, &u64::to_le_bytes(special[numbers.below(special.len())])),
            5 => put(&mut bytes, place, &u64::MAX.wrapping_sub(numbers.below(64) as u64).to_le_bytes()),
            6 => {
                let count = numbers.below(64).min(bytes.len().saturating_sub(place));
                bytes.drain(place..place + count);
            }
            7 => {
                let from = numbers.below(length);
                let part = bytes[from.min(bytes.len())..(from + numbers.below(64)).min(bytes.len())].to_vec();
                let at = place.min(bytes.len());
                bytes.splice(at..at, part);
            }
            _ => {
                let other = &files[numbers.below(files.len())];
                let from = numbers.below(other.len());
                put(&mut bytes, place, &other[from..(from + numbers.below(128)).min(other.len())]);
            }
        }
    }
    bytes
}

fn flip(bytes: &mut [u8], place: usize, mask: u8) {
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= mask;
    }
}

fn put(bytes: &mut [u8], place: usize, part: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(place).zip(part) {
        *byte = *new;
    }
}

/// Opens a GGUF file and reads all of it: every key, every list, every row of every tensor.
pub fn gguf(bytes: Vec<u8>) -> Result<usize> {
    let gguf = Gguf::from_bytes(bytes, Path::new("fuzz.gguf"))?;
    let mut seen = 0;
    for key in gguf.keys() {
        if let Ok(Some(list)) = gguf.list(key) {
            seen += list.iter().count();
        }
        seen += gguf.get(key).map_or(0, |value| value.to_string().len());
    }
    for tensor in gguf.tensors() {
        seen += gguf.bytes(&tensor).len();
    }
    let source = Source::from_gguf(gguf, Path::new("fuzz.gguf"))?;
    Ok(seen + read_all(&source)?)
}

/// Opens a safetensors file under a config and reads all tensors that fit it.
pub fn safetensors(bytes: Vec<u8>, config: &Map<String, Value>) -> Result<usize> {
    let checkpoint = Checkpoint::from_bytes(bytes, Path::new("fuzz.safetensors"))?;
    let source = Source::from_checkpoint(config, checkpoint, Path::new("fuzz"))?;
    read_all(&source)
}

fn read_all(source: &Source) -> Result<usize> {
    let mut seen = source.names().len();
    for (name, rows, columns) in source.config().tensors().into_iter().take(64) {
        if columns > 1 << 12 || rows > 1 << 12 {
            continue;
        }
        let view = match source.tensor(&name, rows, columns) {
            Ok(view) => view,
            Err(error) => {
                check(&error);
                continue;
            }
        };
        let mut values = vec![0.0; columns];
        for row in 0..rows {
            seen += view.row(row).len();
            view.decode_row(row, &mut values);
        }
        if let Err(error) = view.check_finite() {
            check(&error);
        }
    }
    Ok(seen)
}

/// Every refusal has a code of its own, and none is a defect.
pub fn check(error: &Error) {
    assert!(error.code.starts_with("CUPEL_NATIVE_") && error.code != "CUPEL_NATIVE_INTERNAL", "{error}");
    assert!(!error.message.is_empty() && error.place.is_some(), "{error}");
}

/// The config under which the safetensors files of the corpus are read.
pub fn corpus_config() -> Map<String, Value> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Runs `count` mutations of each kind of file from `first` on; returns how many of each were accepted.
pub fn run(corpus: &Corpus, config: &Map<String, Value>, first: u64, count: u64) -> [u64; 2] {
    let mut accepted = [0; 2];
    for seed in first..first + count {
        let outcomes = [
            gguf(mutate(&corpus.gguf, &mut Numbers::new(2 * seed))),
            safetensors(mutate(&corpus.safetensors, &mut Numbers::new(2 * seed + 1)), config),
        ];
        for (accepted, outcome) in accepted.iter_mut().zip(outcomes) {
            match outcome {
                Ok(_) => *accepted += 1,
                Err(error) => check(&error),
            }
        }
    }
    accepted
}
