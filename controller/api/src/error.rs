//! What an answer says when it is not what was asked for: a code that programs can rely on, from
//! which the HTTP status follows, and a sentence for people.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use std::fmt;
use tandem_model::text::escaped;
use tandem_model::{Rejection, VmId};
use utoipa::ToSchema;

/// What kind of error it is. Each has one HTTP status, and none is ever renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// 400: the request makes no sense, or cannot be read.
    Invalid,
    /// 401: a token is missing or is not good.
    Unauthorized,
    /// 403: it may not be asked by this client, or from there.
    Forbidden,
    /// 404: there is no such thing.
    NotFound,
    /// 405: the path is right, and the method is not one that it has.
    MethodNotAllowed,
    /// 408: the client was too slow.
    Timeout,
    /// 409: it makes sense, but not as things are now. Nothing was changed.
    Conflict,
    /// 409: something was short, or a rule of the site is against it; `rejection` says what.
    /// Nothing was changed.
    Rejected,
    /// 409: another VM has the name that was asked for. Nothing was changed.
    NameTaken,
    /// 413: the body is too large.
    TooLarge,
    /// 415: the body is of a type that is not read here.
    UnsupportedType,
    /// 503: it was tried and could not be done, and was undone; or there is no room for it now. It
    /// may be asked again.
    Unavailable,
    /// 500: an error of the controller itself, or a code of a newer controller.
    #[default]
    #[serde(other)]
    Internal,
}

impl Code {
    /// Its HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Code::Invalid => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::Timeout => StatusCode::REQUEST_TIMEOUT,
            Code::Conflict | Code::Rejected | Code::NameTaken => StatusCode::CONFLICT,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[schema(as = Error)]
pub struct ApiError {
    /// One sentence for people: what was asked, why it cannot be, and what to do about it.
    pub error: String,
    /// What kind of error it is; the status follows from it. A controller before this field has
    /// none.
    #[serde(default)]
    pub code: Code,
    /// The part of `error` that says what to do, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// For a rejection: what was short where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
}

impl ApiError {
    /// An error of that kind, for that reason.
    pub fn new(code: Code, error: impl Into<String>) -> ApiError {
        ApiError { error: error.into(), code, advice: None, rejection: None }
    }

    /// The request makes no sense.
    pub fn invalid(error: impl Into<String>) -> ApiError {
        ApiError::new(Code::Invalid, error)
    }

    /// There is no such thing.
    pub fn not_found(error: impl Into<String>) -> ApiError {
        ApiError::new(Code::NotFound, error)
    }

    /// It makes sense, but not as things are now.
    pub fn conflict(error: impl Into<String>) -> ApiError {
        ApiError::new(Code::Conflict, error)
    }

    /// A VM with that name is there already.
    pub fn name_taken(name: &str, vm: VmId) -> ApiError {
        let error = format!("{vm} has the name \"{}\" already, and names of VMs are unique", escaped(name));
        ApiError::new(Code::NameTaken, error).advise(format!("choose another, or delete {vm} first"))
    }

    /// It may not be asked by this client, or from there.
    pub fn forbidden(error: impl Into<String>) -> ApiError {
        ApiError::new(Code::Forbidden, error)
    }

    /// It was tried and could not be done.
    pub fn unavailable(error: impl Into<String>) -> ApiError {
        ApiError::new(Code::Unavailable, error)
    }

    /// Something was short, or a rule of the site is against it.
    pub fn rejected(rejection: Rejection) -> ApiError {
        let error = rejection.summary.clone();
        ApiError { rejection: Some(rejection), ..ApiError::new(Code::Rejected, error) }
    }

    /// The same, with what to do about it, which becomes the end of its sentence.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> ApiError {
        let advice = advice.into();
        self.error = format!("{}; {advice}", self.error);
        self.advice = Some(advice);
        self
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_before_and_one_of_a_newer_controller_are_read() {
        let old: ApiError = serde_json::from_str(r#"{"error": "there is no vm7"}"#).expect("an error");
        assert_eq!((old.error.as_str(), old.code), ("there is no vm7", Code::Internal));
        let newer = r#"{"error": "no", "code": "quota-exceeded", "more": 1}"#;
        assert_eq!(serde_json::from_str::<ApiError>(newer).expect("an error").code, Code::Internal);
    }

    #[test]
    fn advice_is_the_end_of_the_sentence_and_a_field() {
        let error = ApiError::not_found("there is no server srv9").advise("/api/v1/servers lists them");
        let text = serde_json::to_value(&error).expect("JSON");
        let expected = serde_json::json!({
            "error": "there is no server srv9; /api/v1/servers lists them",
            "code": "not-found",
            "advice": "/api/v1/servers lists them",
        });
        assert_eq!(text, expected);
        assert_eq!(error.status(), StatusCode::NOT_FOUND);
    }
}
