//! Checkpoint files. All of them are hostile input: lengths, offsets, counts, types and shapes are checked
//! before anything of their size is read or allocated.

mod atomic;
mod config;
mod dtype;
mod error;
pub mod gguf;
mod header;
mod mapped;
pub mod peft;
pub mod quant;
mod quantize;
mod rope;
pub mod safetensors;
mod source;
mod tensor;
mod w8a8;

pub use config::{Architecture, Config};
pub use dtype::{bf16_bits, f16_bits, f16_to_f32, Dtype};
pub use error::*;
pub use gguf::Gguf;
pub use quantize::{kind_from_name, quantize, stored_type, QuantizeOptions, Report, Written};
pub use rope::RopeScaling;
pub use source::Source;
pub use tensor::{TensorType, TensorView};
pub use w8a8::quantize_w8a8;
