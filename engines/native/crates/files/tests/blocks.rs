//! Block types against values of the gguf package, bit by bit.

use std::path::Path;

use cupel_files::quant::{decode_row, encode_row, is_finite};
use cupel_files::safetensors::Header;
use cupel_files::TensorType;

struct Vectors {
    bytes: Vec<u8>,
    header: Header,
}

impl Vectors {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../fixtures/reference/gguf/blocks.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let header = Header::of_file(&bytes).unwrap();
        Self { bytes, header }
    }

    /// Rows of raw bytes.
    fn rows(&self, name: &str) -> Vec<&[u8]> {
        let (_, entry) = self.header.find(name).unwrap_or_else(|| panic!("{name}"));
        let start = (self.header.data_start + entry.begin) as usize;
        let row = entry.shape[1] * entry.element.size() as usize;
        self.bytes[start..start + entry.shape[0] * row].chunks(row).collect()
    }

    fn numbers(&self, name: &str) -> Vec<Vec<f32>> {
        let decode = |row: &[u8]| row.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect();
        self.rows(name).into_iter().map(decode).collect()
    }
}

const QUANTIZED: [TensorType; 8] = [
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q4K,
    TensorType::Q5K,
    TensorType::Q6K,
];

#[test]
fn every_block_type_decodes_bit_by_bit_as_the_reference() {
    let vectors = Vectors::open();
    for kind in QUANTIZED {
        let wanted = vectors.numbers(&format!("{}.values", kind.name()));
        for (block, wanted) in vectors.rows(&format!("{}.bytes", kind.name())).into_iter().zip(wanted) {
            let mut seen = vec![0.0; wanted.len()];
            decode_row(kind, block, &mut seen);
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&seen), bits(&wanted), "{kind:?}");
        }
    }
}

#[test]
fn blocks_of_32_and_halves_encode_bit_by_bit_as_the_reference() {
    let vectors = Vectors::open();
    let input = vectors.numbers("input");
    for kind in [
        TensorType::F16,
        TensorType::Bf16,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::Q8_0,
    ] {
        let wanted = vectors.rows(&format!("{}.encoded", kind.name()));
        for (number, (values, wanted)) in input.iter().zip(wanted).enumerate() {
            let mut seen = Vec::new();
            encode_row(kind, values, &mut seen);
            assert_eq!(seen, wanted, "{kind:?} row {number}");
        }
    }
}

/// Normally distributed numbers from a counter, the sum of twelve uniform ones.
fn normal(count: usize, scale: f32) -> Vec<f32> {
    let mut state = 0x1234_5678_9abc_def0u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    (0..count).map(|_| ((0..12).map(|_| uniform()).sum::<f32>() - 6.0) * scale).collect()
}

fn relative_error(kind: TensorType, values: &[f32]) -> f64 {
    let mut bytes = Vec::new();
    encode_row(kind, values, &mut bytes);
    assert_eq!(Some(bytes.len()), kind.row_bytes(values.len()));
    assert!(is_finite(kind, &bytes));
    let mut seen = vec![0.0; values.len()];
    decode_row(kind, &bytes, &mut seen);
    let square = |value: f64| value * value;
    let error: f64 = values.iter().zip(&seen).map(|(wanted, seen)| square(f64::from(wanted - seen))).sum();
    (error / values.iter().map(|value| square(f64::from(*value))).sum::<f64>()).sqrt()
}

/// Bounds 1 % above what was measured. llama.cpp (ggml of node-llama-cpp 3.22) gives 0.0706, 0.0357 and 0.0174 for the
/// same numbers.
#[test]
fn blocks_of_256_lose_no_more_than_measured_on_normal_numbers() {
    let values = normal(256 * 256, 0.02);
    for (kind, bound) in [(TensorType::Q4K, 0.0695), (TensorType::Q5K, 0.0343), (TensorType::Q6K, 0.0172)] {
        let error = relative_error(kind, &values);
        println!("{} {error:.5}", kind.name());
        assert!(error <= bound, "{} {error}", kind.name());
    }
}

#[test]
fn odd_blocks_of_256_keep_their_numbers() {
    let ramp: Vec<f32> = (0..256).map(|index| index as f32 / 255.0).collect();
    let mut spike = normal(256, 0.01);
    spike[77] = -4.0;
    let cases = [
        vec![0.0; 256],
        vec![0.25; 256],
        vec![-0.25; 256],
        ramp.clone(),
        ramp.iter().map(|value| -value).collect(),
        spike,
        normal(256, 1e-6),
        normal(256, 3e4),
        normal(256, 1e-30),
    ];
    for (number, values) in cases.iter().enumerate() {
        for kind in [TensorType::Q4K, TensorType::Q5K, TensorType::Q6K] {
            let mut bytes = Vec::new();
            encode_row(kind, values, &mut bytes);
            assert!(is_finite(kind, &bytes), "{kind:?} case {number}");
            let mut seen = vec![0.0; 256];
            decode_row(kind, &bytes, &mut seen);
            let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            let worst = values.iter().zip(&seen).fold(0.0f32, |worst, (left, right)| worst.max((left - right).abs()));
            // Below a half's least step nothing can be kept.
            assert!(worst <= most * 0.15 + 1e-7, "{kind:?} case {number}: {worst} of {most}");
        }
    }
}
