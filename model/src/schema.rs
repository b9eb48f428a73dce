//! What the API's description says of types that are not ours (feature `schema`).

/// A length of time, in two parts that are added.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "only its description is used")]
pub struct Span {
    /// Whole seconds.
    secs: u64,
    /// Nanoseconds, below a second.
    nanos: u32,
}
