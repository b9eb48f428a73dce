//! Service classes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One class's new share. The body of `PUT /api/v1/classes` is a list of them; classes that are
/// left out keep what they have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassShare {
    /// The class's name.
    pub name: String,
    /// Guaranteed, percent of a port's rate.
    pub share: f64,
    /// At most, percent of a port's rate; as it is if left out.
    #[serde(default)]
    pub ceiling: Option<f64>,
}
