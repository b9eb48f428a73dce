//! Who is let in at a lab's local sockets: the kernel says who connects, and whoever may not is
//! told so and turned away before anything of his is read.

use crate::control::peer_lines::PeerLines;
use std::os::fd::AsFd;
use tandem_agent_protocol::lab_sockets::peer;
use tandem_agent_protocol::local_peers::LocalPeers;

/// The frames with which an HTTP/2 server says why it ends (RFC 9113 sections 6.5 and 6.8):
/// settings, then GOAWAY.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const GOAWAY: u8 = 7;
/// INADEQUATE_SECURITY (RFC 9113 section 7).
const WHY: u32 = 0xc;

/// Who may use a lab.
pub struct Admission {
    peers: LocalPeers,
    /// What those who connect cause to be said.
    pub lines: PeerLines,
}

impl Admission {
    /// For those who may.
    pub fn new(peers: LocalPeers) -> Admission {
        Admission { peers, lines: PeerLines::default() }
    }

    /// Checks who has connected.
    ///
    /// # Errors
    /// With what that one is to be told.
    pub fn check(&self, stream: &impl AsFd) -> Result<(), String> {
        let checked = match peer(stream) {
            Ok((uid, gid)) => self.peers.check_client(uid, gid).map_err(|e| e.to_string()),
            Err(error) => Err(format!("the kernel does not say who connects: {error}")),
        };
        if let Err(why) = &checked {
            self.lines.warn(|| format!("turned away: {why}"));
        }
        checked
    }
}

/// What an HTTP/2 client is sent that is turned away.
pub fn goodbye(why: &str) -> Vec<u8> {
    let why = why.as_bytes().get(..1000).unwrap_or(why.as_bytes());
    let length = u32::try_from(8 + why.len()).unwrap_or(8).to_be_bytes();
    let mut out = SETTINGS.to_vec();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[GOAWAY, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&0u32.to_be_bytes());
    out.extend_from_slice(&WHY.to_be_bytes());
    out.extend_from_slice(why);
    out
}
