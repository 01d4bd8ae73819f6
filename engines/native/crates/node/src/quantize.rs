//! Writes checkpoints in other types.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;

use cupel_core::Source;
use cupel_files::{kind_from_name, quantize_w8a8, QuantizeOptions, Report};
use napi::bindgen_prelude::Result;
use napi_derive::napi;

use crate::fault::Fault;
use crate::input::unknown;
use crate::model::thread;
use crate::reply::{Callback, Reply, Responder};

#[napi(object)]
pub struct QuantizeInput {
    pub source: String,
    /// GGUF file, or for `w8a8` a folder that does not exist or is empty.
    pub target: String,
    /// `f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k` or `w8a8`.
    pub kind: String,
    /// llama.cpp's name of the pre-tokenizer.
    pub pre: Option<String>,
    pub threads: u32,
}

/// What was written.
#[napi(object)]
pub struct WrittenReply {
    /// Bytes of the file, or of the weights of the folder.
    pub bytes: f64,
    pub parameters: f64,
    /// By type, in the order in which they come.
    pub types: Vec<WrittenType>,
}

#[napi(object)]
pub struct WrittenType {
    pub kind: String,
    pub tensors: u32,
    /// Largest relative root mean square error of a tensor of the type.
    pub relative_error: f64,
}

/// The last reply has `written`.
#[napi]
pub fn quantize(input: QuantizeInput, callback: Callback) -> Result<()> {
    let responder = Responder::new(callback);
    thread("cupel-quantize", move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&input))).unwrap_or_else(|_| Err(Fault::defect()));
        responder.finish(outcome.map(|report| Reply { written: Some(summary(&report)), ..Reply::done() }));
    })?;
    Ok(())
}

fn run(input: &QuantizeInput) -> std::result::Result<Report, Fault> {
    let (source, target) = (Source::open(&PathBuf::from(&input.source))?, PathBuf::from(&input.target));
    if input.kind == "w8a8" {
        return Ok(quantize_w8a8(&source, &target)?);
    }
    let kind = kind_from_name(&input.kind).ok_or_else(|| {
        unknown("type", &input.kind, "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k and w8a8")
    })?;
    let options = QuantizeOptions {
        pre_tokenizer: input.pre.clone(),
        threads: input.threads as usize,
        ..QuantizeOptions::new(kind)
    };
    Ok(cupel_files::quantize(&source, &target, &options)?)
}

fn summary(report: &Report) -> WrittenReply {
    let mut types: Vec<WrittenType> = Vec::new();
    let mut parameters = 0.0;
    for tensor in &report.tensors {
        parameters += (tensor.rows * tensor.columns) as f64;
        let name = tensor.kind.name();
        match types.iter_mut().find(|entry| entry.kind == name) {
            Some(entry) => {
                entry.tensors += 1;
                entry.relative_error = entry.relative_error.max(tensor.relative_error);
            }
            None => {
                types.push(WrittenType { kind: name.to_string(), tensors: 1, relative_error: tensor.relative_error })
            }
        }
    }
    WrittenReply { bytes: report.bytes as f64, parameters, types }
}
