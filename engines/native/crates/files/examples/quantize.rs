//! Writes a checkpoint in another type: `quantize SOURCE KIND TARGET [PRE_TOKENIZER|none]`, where KIND is one of the
//! names of `kind_from_name` (a GGUF file) or `w8a8` (a folder). Prints what each tensor lost.

use std::path::Path;
use std::process::ExitCode;

use cupel_files::{kind_from_name, quantize, quantize_w8a8, Error, QuantizeOptions, Report, Source};

fn run(arguments: &[String]) -> Result<Report, Error> {
    let [source, kind, target, rest @ ..] = arguments else {
        return Err(Error::new("USAGE", "quantize SOURCE KIND TARGET [PRE_TOKENIZER|none]"));
    };
    let source = Source::open(Path::new(source))?;
    let Some(kind) = kind_from_name(kind) else {
        return quantize_w8a8(&source, Path::new(target));
    };
    let mut options = QuantizeOptions::new(kind);
    match rest.first().map(String::as_str) {
        Some("none") => options.no_tokenizer = true,
        Some(name) => options.pre_tokenizer = Some(name.to_string()),
        None => {}
    }
    quantize(&source, Path::new(target), &options)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(report) => {
            for tensor in report.tensors {
                println!("{:<32} {:<20} {:.6}", tensor.name, tensor.kind.name(), tensor.relative_error);
            }
            println!("{} bytes", report.bytes);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
