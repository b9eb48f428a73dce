//! Files of frames: pcap with microseconds or nanoseconds, of either byte order.
//!
//! A file is not trusted: it has at most [`BYTES`] and [`FRAMES`], each frame has to be complete
//! and of Ethernet, and the first fault is reported with the frame's number.

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use std::io::{Read, Write};
use std::time::Duration;
use tandem_fpga_config::generator::Timed;

/// The longest file: more than fits into any card.
pub const BYTES: u64 = 64 << 20;

/// The most frames.
pub const FRAMES: usize = 1 << 17;

/// The longest frame that is written or read.
pub const LONGEST: u32 = 65_535;

/// Why a file of frames cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not a pcap file.
    #[error("it is no pcap file (one of pcapng is converted by `editcap -F pcap`)")]
    Form(#[source] PcapError),
    /// Its frames are not Ethernet.
    #[error("its frames are {0:?}; only ETHERNET can be replayed")]
    Link(DataLink),
    /// A frame is truncated in the file, or its fields are impossible.
    #[error("frame {frame} cannot be read")]
    Frame {
        /// The frame's number, from 1.
        frame: usize,
        /// The reason.
        #[source]
        source: PcapError,
    },
    /// The fraction of a frame's time is a second or more.
    #[error("frame {frame}: {fraction} is no fraction of a second")]
    Time {
        /// The frame's number, from 1.
        frame: usize,
        /// The fraction in the file, in micro- or nanoseconds.
        fraction: u32,
    },
    /// A frame was truncated when it was captured.
    #[error("frame {frame} has {there} of its {of} bytes: capture whole frames (`tcpdump -s 0`)")]
    CutOff {
        /// The frame's number, from 1.
        frame: usize,
        /// Bytes in the file.
        there: u32,
        /// Bytes on the wire.
        of: u32,
    },
    /// A frame is too long.
    #[error("frame {frame} has {bytes} bytes; none is longer than {LONGEST}")]
    Long {
        /// The frame's number, from 1.
        frame: usize,
        /// Its length.
        bytes: u32,
    },
    /// The file has too many bytes or frames.
    #[error("it has more than {FRAMES} frames or {BYTES} bytes: no card holds that")]
    TooMuch,
    /// It cannot be written.
    #[error("it cannot be written")]
    Write(#[source] PcapError),
}

/// Reads the frames of a file.
///
/// With the first fault.
pub fn read(file: impl Read) -> Result<Vec<Timed>, FileError> {
    // One byte more than allowed shows that the file is too long.
    let mut limited = file.take(BYTES + 1);
    let mut reader = PcapReader::new(limited.by_ref()).map_err(FileError::Form)?;
    let header = reader.header();
    if header.datalink != DataLink::ETHERNET {
        return Err(FileError::Link(header.datalink));
    }
    let unit = match header.ts_resolution {
        TsResolution::MicroSecond => 1_000,
        TsResolution::NanoSecond => 1,
    };
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_raw_packet() {
        let frame = frames.len() + 1;
        if frame > FRAMES {
            return Err(FileError::TooMuch);
        }
        let packet = packet.map_err(|source| FileError::Frame { frame, source })?;
        let (there, of, fraction) = (packet.incl_len, packet.orig_len, packet.ts_frac);
        if of > LONGEST {
            return Err(FileError::Long { frame, bytes: of });
        }
        if there != of {
            return Err(FileError::CutOff { frame, there, of });
        }
        let nanoseconds = fraction.checked_mul(unit).filter(|n| *n < 1_000_000_000);
        let nanoseconds = nanoseconds.ok_or(FileError::Time { frame, fraction })?;
        let at = Duration::new(packet.ts_sec.into(), nanoseconds);
        frames.push(Timed { at, bytes: packet.data.into_owned() });
    }
    drop(reader);
    if limited.limit() == 0 { Err(FileError::TooMuch) } else { Ok(frames) }
}

/// Writes frames with nanoseconds.
pub struct Writer<W: Write>(PcapWriter<W>);

impl<W: Write> Writer<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(file: W) -> Result<Writer<W>, FileError> {
        let header = PcapHeader {
            snaplen: LONGEST,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        PcapWriter::with_header(file, header).map(Writer).map_err(FileError::Write)
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// When it cannot be written, or is longer than [`LONGEST`].
    pub fn frame(&mut self, at: Duration, bytes: &[u8]) -> Result<(), FileError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.write_packet(&PcapPacket::new(at, length, bytes)).map(drop).map_err(FileError::Write)
    }

    /// The file.
    pub fn into_inner(self) -> W {
        self.0.into_writer()
    }
}
