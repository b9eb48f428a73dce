//! What crosses crates: layering, end to end, recorded runs, conformance.
