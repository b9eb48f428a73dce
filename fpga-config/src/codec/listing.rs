//! Register writes as text.
