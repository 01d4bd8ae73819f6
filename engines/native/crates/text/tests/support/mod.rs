//! What the tests share.
#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cupel_text::{GgufVocabulary, MetadataLookup};

/// The folder of recorded cases, if it is there: `CUPEL_CONFORMANCE`, else beside the repository.
pub fn conformance() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../../shared/conformance");
    let folder = std::env::var_os("CUPEL_CONFORMANCE").map_or(beside, PathBuf::from);
    let there = folder.join("engine/tokenizer").is_dir();
    if !there {
        eprintln!("skipped: no recorded cases at {}", folder.display());
    }
    there.then_some(folder)
}

/// The metadata of a GGUF file, enough for vocabularies. For trusted files only.
pub struct Metadata(HashMap<String, Entry>);

pub enum Entry {
    Number(f64),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<f64>),
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_at(N);
        self.0 = tail;
        head.try_into().unwrap()
    }

    fn text(&mut self) -> String {
        let length = u64::from_le_bytes(self.take()) as usize;
        let (head, tail) = self.0.split_at(length);
        self.0 = tail;
        String::from_utf8(head.to_vec()).unwrap()
    }

    fn number(&mut self, kind: u32) -> f64 {
        match kind {
            0 | 7 => f64::from(u8::from_le_bytes(self.take())),
            1 => f64::from(i8::from_le_bytes(self.take())),
            2 => f64::from(u16::from_le_bytes(self.take())),
            3 => f64::from(i16::from_le_bytes(self.take())),
            4 => f64::from(u32::from_le_bytes(self.take())),
            5 => f64::from(i32::from_le_bytes(self.take())),
            6 => f64::from(f32::from_le_bytes(self.take())),
            10 => u64::from_le_bytes(self.take()) as f64,
            11 => i64::from_le_bytes(self.take()) as f64,
            12 => f64::from_le_bytes(self.take()),
            other => panic!("kind {other}"),
        }
    }
}

impl Metadata {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let mut cursor = Cursor(&bytes);
        let _header: [u8; 16] = cursor.take();
        let count = u64::from_le_bytes(cursor.take());
        let mut entries = HashMap::new();
        for _ in 0..count {
            let key = cursor.text();
            let entry = match u32::from_le_bytes(cursor.take()) {
                8 => Entry::Text(cursor.text()),
                9 => {
                    let kind = u32::from_le_bytes(cursor.take());
                    let length = u64::from_le_bytes(cursor.take());
                    match kind {
                        8 => Entry::Texts((0..length).map(|_| cursor.text()).collect()),
                        _ => Entry::Numbers((0..length).map(|_| cursor.number(kind)).collect()),
                    }
                }
                kind => Entry::Number(cursor.number(kind)),
            };
            entries.insert(key, entry);
        }
        Self(entries)
    }

    pub fn vocabulary(&self) -> GgufVocabulary {
        GgufVocabulary::read(self).unwrap()
    }
}

impl MetadataLookup for Metadata {
    type Error = std::convert::Infallible;

    fn text(&self, key: &str) -> Result<Option<String>, Self::Error> {
        Ok(self.0.get(key).and_then(|entry| if let Entry::Text(text) = entry { Some(text.clone()) } else { None }))
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, Self::Error> {
        let Some(Entry::Texts(texts)) = self.0.get(key) else { return Ok(Vec::new()) };
        Ok(texts.clone())
    }

    fn numbers(&self, key: &str) -> Result<Vec<i32>, Self::Error> {
        let Some(Entry::Numbers(numbers)) = self.0.get(key) else { return Ok(Vec::new()) };
        Ok(numbers.iter().map(|number| *number as i32).collect())
    }

    fn scores(&self, key: &str) -> Result<Vec<f32>, Self::Error> {
        let Some(Entry::Numbers(numbers)) = self.0.get(key) else { return Ok(Vec::new()) };
        Ok(numbers.iter().map(|number| *number as f32).collect())
    }

    fn id(&self, key: &str) -> Result<Option<u32>, Self::Error> {
        Ok(self.0.get(key).and_then(|entry| if let Entry::Number(id) = entry { Some(*id as u32) } else { None }))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Self::Error> {
        Ok(self.id(key)?.map(|number| number != 0))
    }
}

/// A small deterministic stream of numbers.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}
