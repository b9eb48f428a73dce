//! Bitfiles: `.bit` (a header with design, part and date, then the configuration) and raw `.bin`. A
//! file that is for another part, is truncated, or has trailing bytes is refused before a card is
//! changed; the public download tool checks none of these.
//!
//! The format, that of 23 public files: u16 9 and 9 bytes; u16 1; sections `a` design, `b` part,
//! `c` date, `d` time, each a u16 length and a string with a NUL at its end; section `e`, a u32
//! length and the configuration. All big-endian.

use crate::profile::{BusFpga, UserFpga};
use std::ops::Range;

/// The first words of a configuration: padding, and the word that synchronises the FPGA.
pub const SYNC: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0xaa, 0x99, 0x55, 0x66];

/// The 9 bytes of the first section, as the tools write them; they have no meaning, so they are not
/// checked.
const MAGIC: [u8; 9] = [0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x00];

/// The header of a `.bit`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Header {
    /// Name of the design as the tools wrote it, e.g. `nf2_top_par.ncd`.
    pub design: String,
    /// The part that it was made for, e.g. `2vp50ff1152`.
    pub part: String,
    /// The date of its making, e.g. `2009/ 7/ 4`.
    pub date: String,
    /// The time of day.
    pub time: String,
}

/// A bitfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bitfile<'a> {
    /// The configuration.
    pub data: &'a [u8],
    header: Option<[&'a [u8]; 4]>,
}

/// Why a file is not a bitfile, or not for this card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BitfileError {
    /// Its first bytes are those of neither format.
    #[error(
        "this is no bitfile: it starts with neither the header of a .bit nor the FFFFFFFF of a .bin; was it unpacked?"
    )]
    NotOne,
    /// It ends too early.
    #[error("cut off in {section} (at byte {at} of {length}); copy it again")]
    CutOff {
        /// The section.
        section: &'static str,
        /// Offset at which more bytes were needed.
        at: usize,
        /// The file's length.
        length: usize,
    },
    /// A section is malformed.
    #[error("at byte {at}: {wanted} was expected; it is damaged or no bitfile of this kind")]
    Section {
        /// Its offset.
        at: usize,
        /// What was expected there.
        wanted: &'static str,
    },
    /// Something follows the configuration.
    #[error("{0} bytes follow the end of the configuration; it is damaged")]
    Trailing(usize),
    /// The configuration has the wrong first words.
    #[error(
        "the configuration starts with {0:02x?}, not with FFFFFFFF AA995566; it is damaged, or its bits are swapped"
    )]
    NoSync(Vec<u8>),
    /// It is for another part.
    #[error("it is for the part {part}{}, the {which} is a {wanted}; nothing was loaded", hint(part))]
    Part {
        /// The part in the file.
        part: String,
        /// The part on the card.
        wanted: String,
        /// The FPGA's name.
        which: &'static str,
    },
    /// Its length is not that of the part's configurations.
    #[error("its configuration has {length} bytes, that of a {part} always has {wanted}; nothing was loaded")]
    Length {
        /// The file's.
        length: usize,
        /// The part's.
        wanted: u32,
        /// The part.
        part: String,
    },
}

/// The card that another known part is on.
fn hint(part: &str) -> &'static str {
    match part {
        "2s200fg456" => " (the bus FPGA of a NetFPGA-1G)",
        "2vp50ff1152" => " (the user FPGA of a NetFPGA-1G)",
        _ => "",
    }
}

impl<'a> Bitfile<'a> {
    /// Reads a `.bit` or a `.bin`.
    ///
    /// # Errors
    /// When it is neither, or damaged.
    pub fn parse(file: &'a [u8]) -> Result<Bitfile<'a>, BitfileError> {
        if file.starts_with(&[0xff, 0xff]) {
            return Bitfile { data: file, header: None }.synchronised();
        }
        let mut r = Reader { file, at: 0 };
        let first = r.take("the start", 2)?;
        if first != [0, 9] {
            return Err(BitfileError::NotOne);
        }
        r.take("the start", 9)?;
        if r.take("the start", 2)? != [0, 1] {
            return Err(BitfileError::Section { at: 11, wanted: "the number 1" });
        }
        let header = [
            r.string(b'a', "section a (design)", "section a, a string")?,
            r.string(b'b', "section b (part)", "section b, a string")?,
            r.string(b'c', "section c (date)", "section c, a string")?,
            r.string(b'd', "section d (time)", "section d, a string")?,
        ];
        r.letter(b'e', "section e (configuration)", "section e")?;
        let mut length = [0; 4];
        length.copy_from_slice(r.take("section e (configuration)", 4)?);
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let data = r.take("section e (configuration)", length)?;
        match file.len() - r.at {
            0 => Bitfile { data, header: Some(header) }.synchronised(),
            more => Err(BitfileError::Trailing(more)),
        }
    }

    fn synchronised(self) -> Result<Self, BitfileError> {
        match self.data.get(..SYNC.len()) {
            Some(start) if start == SYNC => Ok(self),
            Some(start) => Err(BitfileError::NoSync(start.to_vec())),
            None => {
                let length = self.data.len();
                Err(BitfileError::CutOff { section: "the configuration", at: length, length })
            }
        }
    }

    /// Its header; `None` for a `.bin`.
    pub fn header(&self) -> Option<Header> {
        let [design, part, date, time] = self.header?.map(|s| String::from_utf8_lossy(s).into_owned());
        Some(Header { design, part, date, time })
    }

    /// Checks that it can be loaded into this user FPGA.
    ///
    /// # Errors
    /// When it is for another part, or of another length.
    pub fn for_user(&self, fpga: &UserFpga) -> Result<(), BitfileError> {
        self.is_for("user FPGA", &fpga.part, fpga.bytes)
    }

    /// Checks that it can be loaded into this bus FPGA.
    ///
    /// # Errors
    /// When it is for another part, or of another length.
    pub fn for_bus(&self, fpga: &BusFpga) -> Result<(), BitfileError> {
        self.is_for("bus FPGA", &fpga.part, fpga.bytes)
    }

    fn is_for(&self, which: &'static str, wanted: &str, bytes: u32) -> Result<(), BitfileError> {
        if let Some(header) = self.header()
            && header.part != wanted
        {
            return Err(BitfileError::Part { part: header.part, wanted: wanted.to_owned(), which });
        }
        let length = self.data.len();
        if u32::try_from(length) != Ok(bytes) {
            return Err(BitfileError::Length { length, wanted: bytes, part: wanted.to_owned() });
        }
        Ok(())
    }

    /// The words to write to PROG_DATA: 4 bytes each, little-endian; the last one is padded with
    /// FF.
    pub fn words(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.data.chunks(4).map(|chunk| {
            let mut bytes = [0xff; 4];
            for (to, from) in bytes.iter_mut().zip(chunk) {
                *to = *from;
            }
            u32::from_le_bytes(bytes)
        })
    }
}

/// Writes a `.bit`, for tests, and to turn a `.bin` into a file that names its part.
///
/// # Errors
/// When a string or the data is too long for its length.
pub fn write(header: &Header, data: &[u8]) -> Result<Vec<u8>, std::num::TryFromIntError> {
    let mut file = vec![0, 9];
    file.extend(MAGIC);
    file.extend([0, 1]);
    for (letter, text) in (b'a'..).zip([&header.design, &header.part, &header.date, &header.time]) {
        file.push(letter);
        file.extend(u16::try_from(text.len() + 1)?.to_be_bytes());
        file.extend(text.bytes().chain([0]));
    }
    file.push(b'e');
    file.extend(u32::try_from(data.len())?.to_be_bytes());
    file.extend(data);
    Ok(file)
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, section: &'static str, length: usize) -> Result<&'a [u8], BitfileError> {
        let range: Range<usize> = self.at..self.at.saturating_add(length);
        let Some(bytes) = self.file.get(range.clone()) else {
            return Err(BitfileError::CutOff { section, at: self.at, length: self.file.len() });
        };
        self.at = range.end;
        Ok(bytes)
    }

    fn letter(
        &mut self,
        letter: u8,
        section: &'static str,
        wanted: &'static str,
    ) -> Result<(), BitfileError> {
        let at = self.at;
        if self.take(section, 1)? == [letter] { Ok(()) } else { Err(BitfileError::Section { at, wanted }) }
    }

    /// A lettered section with a string that ends in NUL; returned without the NUL.
    fn string(
        &mut self,
        letter: u8,
        section: &'static str,
        wanted: &'static str,
    ) -> Result<&'a [u8], BitfileError> {
        self.letter(letter, section, wanted)?;
        let mut length = [0; 2];
        length.copy_from_slice(self.take(section, 2)?);
        let at = self.at;
        let text = self.take(section, usize::from(u16::from_be_bytes(length)))?;
        text.strip_suffix(&[0]).ok_or(BitfileError::Section { at, wanted })
    }
}
