//! Tokens for the API over TCP.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of `POST /api/v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// For people.
    #[schema(min_length = 1, max_length = 63)]
    pub name: String,
    /// May it only read?
    #[serde(default)]
    pub read_only: bool,
    /// How long it is good, in minutes; until it is revoked, if left out.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub minutes: Option<u64>,
}

/// A token, without its secret. Times are seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// For people.
    pub name: String,
    /// May it only read?
    pub read_only: bool,
    /// When it was made.
    pub made: i64,
    /// Until when it is good; `None` until it is revoked.
    #[serde(default)]
    pub expires: Option<i64>,
}

/// A token that was just made. Its secret is shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenSecret {
    /// Whose it is.
    pub name: String,
    /// The secret.
    pub token: String,
}
