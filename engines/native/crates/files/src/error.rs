use std::fmt;

/// Result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A refusal with a stable code: what happened, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Stable, `CUPEL_NATIVE_<WHAT>`.
    pub code: &'static str,
    /// What happened, with the value seen.
    pub message: String,
    /// File, tensor, request or path in the config.
    pub place: Option<String>,
    /// What the reader can do.
    pub remedy: Option<String>,
}

pub const CONFIG_INVALID: &str = "CUPEL_NATIVE_CONFIG_INVALID";
pub const TENSOR_MISSING: &str = "CUPEL_NATIVE_TENSOR_MISSING";
pub const TENSOR_SHAPE: &str = "CUPEL_NATIVE_TENSOR_SHAPE";
pub const TENSOR_UNKNOWN: &str = "CUPEL_NATIVE_TENSOR_UNKNOWN";
pub const TENSOR_NONFINITE: &str = "CUPEL_NATIVE_TENSOR_NONFINITE";
pub const SAFETENSORS_TRUNCATED: &str = "CUPEL_NATIVE_SAFETENSORS_TRUNCATED";
pub const SAFETENSORS_INVALID: &str = "CUPEL_NATIVE_SAFETENSORS_INVALID";
pub const GGUF_TRUNCATED: &str = "CUPEL_NATIVE_GGUF_TRUNCATED";
pub const GGUF_INVALID: &str = "CUPEL_NATIVE_GGUF_INVALID";
pub const TENSOR_TYPE: &str = "CUPEL_NATIVE_TENSOR_TYPE";
pub const TOKENIZER_MISSING: &str = "CUPEL_NATIVE_TOKENIZER_MISSING";
pub const TOKENIZER_INVALID: &str = "CUPEL_NATIVE_TOKENIZER_INVALID";
pub const TOKENIZER_UNSUPPORTED: &str = "CUPEL_NATIVE_TOKENIZER_UNSUPPORTED";
pub const CONTEXT_OVERFLOW: &str = "CUPEL_NATIVE_CONTEXT_OVERFLOW";
pub const TOKEN_OUT_OF_RANGE: &str = "CUPEL_NATIVE_TOKEN_OUT_OF_RANGE";
pub const REQUEST_INVALID: &str = "CUPEL_NATIVE_REQUEST_INVALID";
pub const BATCH_INVALID: &str = "CUPEL_NATIVE_BATCH_INVALID";
pub const CONSTRAINT_FAILED: &str = "CUPEL_NATIVE_CONSTRAINT_FAILED";
pub const OUTPUT_NONFINITE: &str = "CUPEL_NATIVE_OUTPUT_NONFINITE";
pub const GRADIENT_NONFINITE: &str = "CUPEL_NATIVE_GRADIENT_NONFINITE";
pub const STATE_INVALID: &str = "CUPEL_NATIVE_STATE_INVALID";
pub const CANCELLED: &str = "CUPEL_NATIVE_CANCELLED";
pub const IO: &str = "CUPEL_NATIVE_IO";
pub const INTERNAL: &str = "CUPEL_NATIVE_INTERNAL";

impl Error {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), place: None, remedy: None }
    }

    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Sets the place where there is none yet.
    #[must_use]
    pub fn or_at(self, place: impl Into<String>) -> Self {
        if self.place.is_some() {
            self
        } else {
            self.at(place)
        }
    }

    /// Puts the path of a file before the place inside of it.
    #[must_use]
    pub fn inside(self, path: &std::path::Path) -> Self {
        let place = match &self.place {
            Some(place) if !place.is_empty() => format!("{}: {place}", path.display()),
            _ => path.display().to_string(),
        };
        self.at(place)
    }

    pub fn io(place: &std::path::Path, cause: &std::io::Error) -> Self {
        Self::new(IO, format!("{cause}")).at(place.display().to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)?;
        if let Some(place) = &self.place {
            write!(formatter, " ({place})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Runs `work`; a panic, which would be a defect of this crate, becomes a coded error and never crosses
/// the interface.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(cause) => {
            let text = cause
                .downcast_ref::<&str>()
                .map(|text| (*text).to_string())
                .or_else(|| cause.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "unknown cause".to_string());
            Err(Error::new(INTERNAL, format!("defect in the native core: {text}")))
        }
    }
}
