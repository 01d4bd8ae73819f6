use std::path::PathBuf;

use cupel_attention::KvType;
use cupel_kernels::Isa;

/// How weights are held and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightType {
    /// As the file has them: f32, f16 and bf16 with f32 arithmetic, quantized types with theirs.
    #[default]
    AsStored,
    /// Everything widened to f32.
    F32,
    /// Quantized at load to blocks of 32 int8 with an f16 scale.
    Q8_0,
    /// Quantized at load to int8 with a scale an output row; activations get a scale a row.
    W8A8,
    /// Weights and activations rounded to bf16, in the arithmetic of AMX tiles; slow where the machine has none.
    Bf16,
}

/// How a model is opened. Only `weights`, `kv` and `adapters` change results.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Threads that compute, with the calling one; 0 counts as 1.
    pub threads: usize,
    /// An instruction set below the machine's best.
    pub isa: Option<Isa>,
    pub weights: WeightType,
    /// Storage of the KV cache. Default: f32 for float weights, f16 for quantized ones.
    pub kv: Option<KvType>,
    /// Bytes that the KV cache may take. Default: one full context, at least 64 MiB.
    pub kv_bytes: Option<u64>,
    /// Rows of a forward step at most (long prompts are read in pieces). Default 1,024.
    pub step_tokens: Option<usize>,
    /// Names and PEFT folders of LoRA adapters.
    pub adapters: Vec<(String, PathBuf)>,
}
