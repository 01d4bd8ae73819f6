/// An error with a stable code: what happened (with the value seen), where, and how to mend it.
#[derive(Debug, Clone)]
pub struct TextError {
    pub code: &'static str,
    pub message: String,
    pub place: String,
    pub remedy: String,
}

pub type Result<T> = std::result::Result<T, TextError>;

impl TextError {
    pub fn new(
        code: &'static str,
        message: impl Into<String>,
        place: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { code, message: message.into(), place: place.into(), remedy: remedy.into() }
    }
}

impl std::fmt::Display for TextError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {} ({})", self.code, self.message, self.place)
    }
}

impl std::error::Error for TextError {}
