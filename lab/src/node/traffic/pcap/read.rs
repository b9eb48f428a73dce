//! Captured frames of a file: pcap (draft-ietf-opsawg-pcap) or pcapng (draft-ietf-opsawg-pcapng),
//! of Ethernet only.
//!
//! A file is not trusted: what is wrong is said with the byte at which it is, and there are
//! [`FRAMES`] frames at most.

use pcap_file::pcap::PcapParser;
use pcap_file::pcapng::{Block, PcapNgParser};
use pcap_file::{DataLink, PcapError, TsResolution};
use std::time::Duration;

/// The longest file, in bytes.
pub(super) const BYTES: u64 = 256 << 20;
/// Frames of a file at most: each is kept in memory for as long as the flow runs.
pub(super) const FRAMES: usize = 1 << 20;
/// What a file of pcapng begins with (section header block).
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Bytes of a frame's header in a pcap file.
const RECORD: usize = 16;

/// Why a file of frames cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is neither pcap nor pcapng.
    #[error("it is neither pcap nor pcapng: {0}")]
    Form(PcapError),
    /// Its frames are not of Ethernet.
    #[error("byte {offset}: its frames are {link:?}; only ETHERNET can be replayed")]
    Link {
        /// Where the frames' kind stands.
        offset: usize,
        /// What they are.
        link: DataLink,
    },
    /// It ends within a frame.
    #[error("byte {offset}: the file ends within frame {frame}: it was cut off")]
    Truncated {
        /// Where the frame begins.
        offset: usize,
        /// Which, from 1.
        frame: usize,
    },
    /// A frame's fields are impossible.
    #[error("byte {offset}: frame {frame} cannot be read: {source}")]
    Frame {
        /// Where it begins.
        offset: usize,
        /// Which, from 1.
        frame: usize,
        /// Why.
        source: PcapError,
    },
    /// There are too many frames.
    #[error("byte {offset}: there are more than {FRAMES} frames: replay a part (`editcap -r`)")]
    TooMany {
        /// Where the first one too many begins.
        offset: usize,
    },
    /// None of its frames can be sent from one VM to another.
    #[error("none of its {frames} frames can be replayed: {left_out}")]
    Nothing {
        /// How many there are.
        frames: usize,
        /// Why not, as text.
        left_out: String,
    },
}

/// A frame as it was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured<'a> {
    /// When, counted from any moment; in a file of pcapng, in any unit.
    pub at: Duration,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// How long it was on the wire.
    pub length: u32,
}

/// Reads the frames of a file.
///
/// # Errors
/// With the first thing that is wrong.
pub fn read(file: &[u8]) -> Result<Vec<Captured<'_>>, FileError> {
    if file.starts_with(&PCAPNG) { read_pcapng(file) } else { read_pcap(file) }
}

fn bad(offset: usize, frame: usize, source: PcapError) -> FileError {
    match source {
        PcapError::IncompleteBuffer => FileError::Truncated { offset, frame },
        source => FileError::Frame { offset, frame, source },
    }
}

fn read_pcap(file: &[u8]) -> Result<Vec<Captured<'_>>, FileError> {
    let (mut rest, parser) = PcapParser::new(file).map_err(FileError::Form)?;
    let header = parser.header();
    if header.datalink != DataLink::ETHERNET {
        // The last field of the file's header of 24 bytes.
        return Err(FileError::Link { offset: 20, link: header.datalink });
    }
    let unit = match header.ts_resolution {
        TsResolution::MicroSecond => 1_000,
        TsResolution::NanoSecond => 1,
    };
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let offset = file.len() - rest.len();
        let frame = frames.len() + 1;
        if frame > FRAMES {
            return Err(FileError::TooMany { offset });
        }
        let (after, packet) = parser.next_raw_packet(rest).map_err(|source| bad(offset, frame, source))?;
        let nanos = packet.ts_frac.checked_mul(unit).filter(|n| *n < 1_000_000_000);
        let field = PcapError::InvalidField("its time has more than a second of fractions");
        let nanos = nanos.ok_or(FileError::Frame { offset, frame, source: field })?;
        let at = Duration::new(packet.ts_sec.into(), nanos);
        // Borrowed from the file: the record's header, then the frame.
        let start = offset + RECORD;
        let bytes = file.get(start..start + packet.data.len()).unwrap_or_default();
        frames.push(Captured { at, bytes, length: packet.orig_len });
        rest = after;
    }
    Ok(frames)
}

fn read_pcapng(file: &[u8]) -> Result<Vec<Captured<'_>>, FileError> {
    let (mut rest, mut parser) = PcapNgParser::new(file).map_err(FileError::Form)?;
    let mut frames: Vec<Captured<'_>> = Vec::new();
    while !rest.is_empty() {
        let offset = file.len() - rest.len();
        let frame = frames.len() + 1;
        let (after, block) = parser.next_block(rest).map_err(|source| bad(offset, frame, source))?;
        let (interface, at, data, length) = match block {
            Block::EnhancedPacket(p) => (p.interface_id as usize, Some(p.timestamp), p.data, p.original_len),
            Block::SimplePacket(p) => (0, None, p.data, p.original_len),
            Block::Packet(p) => {
                (usize::from(p.interface_id), Some(Duration::from_nanos(p.timestamp)), p.data, p.original_len)
            }
            _ => {
                rest = after;
                continue;
            }
        };
        if frame > FRAMES {
            return Err(FileError::TooMany { offset });
        }
        let Some(described) = parser.interfaces().get(interface) else {
            let source = PcapError::InvalidInterfaceId(u32::try_from(interface).unwrap_or(u32::MAX));
            return Err(FileError::Frame { offset, frame, source });
        };
        if described.linktype != DataLink::ETHERNET {
            return Err(FileError::Link { offset, link: described.linktype });
        }
        // A simple packet has no time: it is taken to follow at once.
        let at = at.unwrap_or(frames.last().map_or(Duration::ZERO, |f| f.at));
        let std::borrow::Cow::Borrowed(bytes) = data else {
            let source = PcapError::InvalidField("a block that is not in the file");
            return Err(FileError::Frame { offset, frame, source });
        };
        frames.push(Captured { at, bytes, length });
        rest = after;
    }
    Ok(frames)
}
