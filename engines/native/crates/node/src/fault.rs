use napi_derive::napi;

/// A coded error on its way to JavaScript.
#[napi(object)]
#[derive(Debug, Clone)]
pub struct Fault {
    pub code: String,
    pub message: String,
    pub place: Option<String>,
    pub remedy: Option<String>,
}

impl Fault {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_string(), message: message.into(), place: None, remedy: None }
    }

    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub fn cancelled() -> Self {
        Self::new("CUPEL_NATIVE_CANCELLED", "cancelled by the caller")
    }

    pub fn defect() -> Self {
        Self::new("CUPEL_NATIVE_INTERNAL", "the native engine met a defect of its own and stopped this work")
    }

    pub fn closed() -> Self {
        Self::new("CUPEL_NATIVE_CLOSED", "the model or learner has been closed")
    }
}

impl From<cupel_core::Error> for Fault {
    fn from(error: cupel_core::Error) -> Self {
        Self { code: error.code.to_string(), message: error.message, place: error.place, remedy: error.remedy }
    }
}

impl From<cupel_text::TextError> for Fault {
    fn from(error: cupel_text::TextError) -> Self {
        Self {
            code: error.code.to_string(),
            message: error.message,
            place: Some(error.place),
            remedy: Some(error.remedy),
        }
    }
}

/// For synchronous calls: the fault as JSON in the message of the exception, which the TypeScript face reads.
impl From<Fault> for napi::Error {
    fn from(fault: Fault) -> Self {
        let json = serde_json::json!({
            "code": fault.code,
            "message": fault.message,
            "place": fault.place,
            "remedy": fault.remedy,
        });
        napi::Error::from_reason(json.to_string())
    }
}
