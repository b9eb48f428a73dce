//! Why a connection ends, in texts for the operator: what the switch did, and what to do about it.

use std::time::Duration;
use tandem_openflow::error::DecodeError;
use tandem_openflow::session::SessionError;
use tandem_openflow::session::multipart::Overflow;

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The session has ended.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The features reply could not be decoded.
    #[error(
        "its features reply cannot be decoded: {0}; it got an OpenFlow error. Update the switch's software, and let only switches dial this port"
    )]
    Garbage(DecodeError),
    /// The handshake did not finish in time.
    #[error("it has not sent {0} for {1:?} after its HELLO; look into the switch's own log")]
    Handshake(&'static str, Duration),
    /// The switch refused a request of the handshake.
    #[error(
        "it answers the question for {0} with {1}; such a switch cannot be used: update its software, or set another protocol version"
    )]
    HandshakeRefused(&'static str, String),
    /// A barrier was not answered.
    #[error("it has not confirmed rules for {0:?}; look into the switch's own log")]
    Barrier(Duration),
    /// A reply of too many parts.
    #[error("{0}; no switch has as many ports or flows: update its software")]
    Endless(Overflow),
}

/// (The cause is part of the message, and not a `source` too, so that logs do not print it twice.)
impl From<Overflow> for DriverError {
    fn from(cause: Overflow) -> DriverError {
        DriverError::Endless(cause)
    }
}

/// (The cause is part of the message, and not a `source` too, so that logs do not print it twice.)
impl From<DecodeError> for DriverError {
    fn from(cause: DecodeError) -> DriverError {
        DriverError::Garbage(cause)
    }
}
