//! The client, which reads and writes registers.

use super::LINE;
use super::protocol::{Answer, Request};
use crate::{Card, InjectError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tandem_fpga_config::model::Sent;
use tandem_fpga_config::registers::{Access, AccessError, Registers, check};

/// A card behind a socket. After a time-out or a broken line it cannot be used any more: a late
/// reply would be taken as that of the next request.
#[derive(Debug)]
pub struct CosimCard {
    stream: BufReader<UnixStream>,
    within: Duration,
    broken: bool,
    line: String,
}

impl CosimCard {
    /// Connects. Every reply has to come within `within`.
    ///
    /// When no process listens there.
    pub fn connect(socket: &Path, within: Duration) -> io::Result<CosimCard> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        Ok(CosimCard { stream: BufReader::new(stream), within, broken: false, line: String::new() })
    }

    /// Sends a line.
    fn send(&mut self, request: &Request, access: Access) -> Result<(), AccessError> {
        if self.broken {
            return Err(AccessError::Closed(access));
        }
        let line = format!("{request}\n");
        self.stream.get_mut().write_all(line.as_bytes()).map_err(|e| self.lost(e, access))
    }

    /// Waits for a line.
    fn answer(&mut self, access: Access) -> Result<Answer, AccessError> {
        self.line.clear();
        let limit = u64::try_from(LINE).unwrap_or(u64::MAX);
        match self.stream.by_ref().take(limit).read_line(&mut self.line) {
            Ok(_) if self.line.ends_with('\n') => {}
            Ok(n) if n == LINE => return Err(self.strange(access, "a line longer than any of the protocol")),
            Ok(_) => {
                self.broken = true;
                return Err(AccessError::Closed(access));
            }
            Err(error) => return Err(self.lost(error, access)),
        }
        match Answer::parse(self.line.trim_end()) {
            Ok(Answer::Refused(why)) => Err(AccessError::Refused { access, why }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.strange(access, &error.to_string())),
        }
    }

    fn strange(&mut self, access: Access, why: &str) -> AccessError {
        self.broken = true;
        let error = io::Error::new(io::ErrorKind::InvalidData, format!("the other side answered {why}"));
        AccessError::Failed { access, source: Arc::new(error) }
    }

    fn lost(&mut self, error: io::Error, access: Access) -> AccessError {
        self.broken = true;
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                AccessError::TimedOut { access, within: self.within }
            }
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                AccessError::Closed(access)
            }
            _ => AccessError::Failed { access, source: Arc::new(error) },
        }
    }
}

impl Registers for CosimCard {
    fn read32(&mut self, address: u32) -> Result<u32, AccessError> {
        let access = Access::Read(address);
        check(access)?;
        self.send(&Request::Read(address), access)?;
        match self.answer(access)? {
            Answer::Value(value) => Ok(value),
            other => Err(self.strange(access, &format!("\"{other}\" to a read"))),
        }
    }

    fn write32(&mut self, address: u32, value: u32) -> Result<(), AccessError> {
        let access = Access::Write(address, value);
        check(access)?;
        self.send(&Request::Write(address, value), access)?;
        match self.answer(access)? {
            Answer::Done => Ok(()),
            other => Err(self.strange(access, &format!("\"{other}\" to a write"))),
        }
    }
}

/// The shortest Ethernet frame, without FCS (IEEE 802.3 clause 4.2.3.3).
const SHORTEST: usize = 60;

/// A frame as on the wire: a Linux interface may deliver shorter ones, and a simulated parser stops
/// at a frame that ends before its fields.
fn padded(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

/// The most frames that a frame may lead to: a copy per queue, and those that were held.
const FRAMES: usize = 1 << 16;

impl CosimCard {
    /// The frames that left the card, up to `ok`.
    fn sent(&mut self, access: Access) -> Result<Vec<Sent>, InjectError> {
        let mut sent = Vec::new();
        while sent.len() < FRAMES {
            match self.answer(access)? {
                Answer::Packet(queue, frame) => sent.push((queue, frame)),
                Answer::Done => return Ok(sent),
                other => return Err(self.strange(access, &format!("\"{other}\" to a packet")).into()),
            }
        }
        Err(self.strange(access, "more frames than there can be").into())
    }
}

impl Card for CosimCard {
    fn inject(&mut self, queue: u8, frame: &[u8]) -> Result<Vec<Sent>, InjectError> {
        let access = Access::Packet(queue);
        self.send(&Request::Packet(queue, padded(frame)), access)?;
        self.sent(access)
    }

    fn burst(&mut self, frames: &[(u8, &[u8])]) -> Result<Vec<Sent>, InjectError> {
        let mut last = Access::Packet(0);
        for (queue, frame) in frames {
            last = Access::Packet(*queue);
            self.send(&Request::Queue(*queue, padded(frame)), last)?;
            match self.answer(last)? {
                Answer::Done => {}
                other => {
                    return Err(self.strange(last, &format!("\"{other}\" to a frame of a burst")).into());
                }
            }
        }
        self.send(&Request::Go, last)?;
        self.sent(last)
    }
}
