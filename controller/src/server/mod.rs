//! The controller as a server: what `tandem serve` puts together, its HTTP API, and what it writes
//! for statistics.

pub mod csv;
pub mod http;
pub mod metrics;
pub mod serve;
pub mod text_socket;
