//! Files from elsewhere: whatever they hold, the answer is a model or a coded error, never a panic.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use cupel_core::safetensors::{write, Checkpoint, Header, Tensor};
use cupel_core::{Dtype, Learner, Model, OpenOptions};
use proptest::prelude::*;

static COUNTER: AtomicUsize = AtomicUsize::new(0);

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cupel-core-hostile-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A copy of a good model.
    fn copy() -> Self {
        let folder = Self::new();
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/reference/models/llama-tied-gqa9");
        for name in ["config.json", "model.safetensors"] {
            std::fs::write(folder.0.join(name), std::fs::read(source.join(name)).unwrap()).unwrap();
        }
        folder
    }

    fn code(&self) -> &'static str {
        Model::open(&self.0, &OpenOptions::default()).err().map_or("", |error| error.code)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn code_of(bytes: &[u8]) -> &'static str {
    Header::read(&mut &bytes[..], bytes.len() as u64).err().map_or("", |error| error.code)
}

#[test]
fn malformed_headers_are_refused_with_their_code() {
    let invalid = "CUPEL_NATIVE_SAFETENSORS_INVALID";
    let truncated = "CUPEL_NATIVE_SAFETENSORS_TRUNCATED";
    let one = |entry: &str| format!(r#"{{"a":{entry}}}"#);
    assert_eq!(code_of(&file(&one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 8)), "");
    assert_eq!(code_of(&file(&one(r#"{"dtype":"F32","shape":[],"data_offsets":[0,4]}"#), 4)), "");
    for (bytes, code) in [
        (vec![], truncated),
        (vec![1, 2, 3], truncated),
        (u64::MAX.to_le_bytes().to_vec(), invalid),
        (1000u64.to_le_bytes().to_vec(), truncated),
        (file("[]", 0), invalid),
        (file("{} x", 0), invalid),
        (file(&"[".repeat(5000), 0), invalid),
        (file(&one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 4), truncated),
        (file(&one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 9), invalid),
        (file(&one(r#"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#), 8), invalid),
        (file(&one(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#), 8), invalid),
        (file(&one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}"#), 8), invalid),
        (file(&one(r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#), 0), invalid),
        (file(&one(r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}"#), 4), invalid),
        (file(&one(r#"{"dtype":"Q9","shape":[2],"data_offsets":[0,8]}"#), 8), invalid),
        (file(&one(r#"{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#), 12), invalid),
        (file(&one("7"), 0), invalid),
        (
            file(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                12,
            ),
            invalid,
        ),
        (
            file(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                4,
            ),
            invalid,
        ),
    ] {
        assert_eq!(code_of(&bytes), code, "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(120)]));
    }
}

#[test]
fn missing_misshapen_unknown_and_broken_tensors_are_named() {
    let folder = Folder::copy();
    assert_eq!(folder.code(), "");
    let path = folder.0.join("model.safetensors");
    let mut source = Checkpoint::from_file(&path).unwrap();
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for name in source.names() {
        let shape = source.shape(&name).unwrap().to_vec();
        let mut values = vec![0.0; shape.iter().product()];
        source.read(&name, &shape, &mut values).unwrap();
        tensors.push((name, shape, values));
    }
    let save = |tensors: &[(String, Vec<usize>, Vec<f32>)], dtype: Dtype| {
        let tensors: Vec<_> = tensors.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
        write(&path, &tensors, dtype, &[]).unwrap();
    };
    save(&tensors, Dtype::Bf16);
    assert_eq!(folder.code(), "");
    save(&tensors[1..], Dtype::F32);
    assert_eq!(folder.code(), "CUPEL_NATIVE_TENSOR_MISSING");
    let mut changed = tensors.clone();
    changed[3].1.reverse();
    changed[3].1.push(1);
    save(&changed, Dtype::F32);
    assert_eq!(folder.code(), "CUPEL_NATIVE_TENSOR_SHAPE");
    let mut changed = tensors.clone();
    changed.push(("model.layers.0.self_attn.q_proj.bias".to_string(), vec![72], vec![0.0; 72]));
    save(&changed, Dtype::F32);
    assert_eq!(folder.code(), "CUPEL_NATIVE_TENSOR_UNKNOWN");
    for (dtype, value) in [(Dtype::F32, f32::NAN), (Dtype::Bf16, f32::INFINITY)] {
        let mut changed = tensors.clone();
        changed[2].2[17] = value;
        save(&changed, dtype);
        let error = Learner::open(&folder.0, 1).err().unwrap();
        assert_eq!(error.code, "CUPEL_NATIVE_TENSOR_NONFINITE");
        assert!(
            error.message.contains("17")
                && error.place.unwrap().ends_with(&format!("model.safetensors: {}", tensors[2].0))
        );
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(folder.code(), "CUPEL_NATIVE_TENSOR_MISSING");
    std::fs::remove_file(folder.0.join("config.json")).unwrap();
    assert_eq!(folder.code(), "CUPEL_NATIVE_IO");
}

#[test]
fn shards_are_read_and_an_index_can_not_leave_its_folder() {
    let folder = Folder::copy();
    std::fs::rename(folder.0.join("model.safetensors"), folder.0.join("part.safetensors")).unwrap();
    let names = Checkpoint::from_file(&folder.0.join("part.safetensors")).unwrap().names();
    let index = |place: &str| {
        let map: serde_json::Map<String, serde_json::Value> =
            names.iter().map(|name| (name.clone(), place.into())).collect();
        std::fs::write(
            folder.0.join("model.safetensors.index.json"),
            serde_json::json!({ "weight_map": map }).to_string(),
        )
        .unwrap();
        folder.code()
    };
    assert_eq!(index("part.safetensors"), "");
    assert_eq!(index("../part.safetensors"), "CUPEL_NATIVE_SAFETENSORS_INVALID");
    assert_eq!(index("/etc/hostname"), "CUPEL_NATIVE_SAFETENSORS_INVALID");
    assert_eq!(index("other.safetensors"), "CUPEL_NATIVE_IO");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_a_header_give_a_header_or_a_coded_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let result = Header::read(&mut &bytes[..], bytes.len() as u64);
        prop_assert!(result.is_ok() || result.unwrap_err().code.starts_with("CUPEL_NATIVE_SAFETENSORS_"));
    }

    #[test]
    fn mutated_models_open_or_fail_with_a_code(changes in proptest::collection::vec((0usize..6000, any::<u8>()), 1..4), cut in 0usize..400_000) {
        let folder = Folder::copy();
        let path = folder.0.join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        for (position, value) in changes {
            bytes[position] = value;
        }
        bytes.truncate(cut);
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = Model::open(&folder.0, &OpenOptions::default()) {
            prop_assert!(error.code.starts_with("CUPEL_NATIVE_") && error.code != "CUPEL_NATIVE_INTERNAL", "{error}");
        }
    }

    #[test]
    fn mutated_configs_open_or_fail_with_a_code(position in 0usize..465, value in any::<u8>()) {
        let folder = Folder::copy();
        let path = folder.0.join("config.json");
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[position.min(last)] = value;
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = Model::open(&folder.0, &OpenOptions::default()) {
            prop_assert!(error.code.starts_with("CUPEL_NATIVE_") && error.code != "CUPEL_NATIVE_INTERNAL", "{error}");
        }
    }
}
