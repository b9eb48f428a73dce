//! The device id block at 0x400000, in which a bitfile describes itself.

use crate::registers::{AccessError, Registers, is_no_answer};
use std::fmt;

/// Address of the block, in every bitfile made with the reference library.
pub const BASE: u32 = 0x40_0000;

/// The first 16 bytes of a block of version 2, as four words.
pub const MD5_V2: [u32; 4] = [0x5e46_1ffe, 0x4397_25c9, 0x279a_22a1, 0x855f_6c53];

/// The contents of the block.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeviceId {
    /// The design's number.
    pub device: u32,
    /// Major, minor, revision.
    pub version: (u8, u8, u8),
    /// The id register of the bus FPGA that the bitfile was made for.
    pub cpci: u32,
    /// The folder of its sources, by which profiles are recognised.
    pub directory: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
}

impl DeviceId {
    /// Reads the block; `None` when the bitfile has none (or no bitfile is loaded).
    ///
    /// When the card does not answer.
    pub fn read(regs: &mut dyn Registers) -> Result<Option<DeviceId>, AccessError> {
        for (i, word) in (0..).zip(MD5_V2) {
            if regs.read32(BASE + 4 * i)? != word {
                return Ok(None);
            }
        }
        let [device, version, cpci] =
            [regs.read32(BASE + 0x10)?, regs.read32(BASE + 0x14)?, regs.read32(BASE + 0x18)?];
        let [_, major, minor, revision] = version.to_be_bytes();
        Ok(Some(DeviceId {
            device,
            version: (major, minor, revision),
            cpci,
            directory: text(regs, BASE + 0x1c, 64)?,
            name: text(regs, BASE + 0x5c, 64)?,
            description: text(regs, BASE + 0x9c, 100)?,
        }))
    }

    /// The 64 words of a block with these contents. Strings that are too long are cut.
    pub fn words(&self) -> [u32; 64] {
        let mut bytes = [0u8; 256];
        let (major, minor, revision) = self.version;
        let mut put = |at: usize, limit: usize, text: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(at).zip(text.iter().take(limit)) {
                *to = *from;
            }
        };
        for (i, word) in MD5_V2.iter().enumerate() {
            put(4 * i, 4, &word.to_be_bytes());
        }
        put(0x10, 4, &self.device.to_be_bytes());
        put(0x14, 4, &[0, major, minor, revision]);
        put(0x18, 4, &self.cpci.to_be_bytes());
        put(0x1c, 63, self.directory.as_bytes());
        put(0x5c, 63, self.name.as_bytes());
        put(0x9c, 99, self.description.as_bytes());
        let mut words = [0; 64];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        words
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, revision) = self.version;
        write!(f, "{} {major}.{minor}.{revision} ({}): {}", self.name, self.directory, self.description)
    }
}

/// A string of the block: big-endian within words, up to the first NUL; bytes that are not UTF-8
/// are shown as U+FFFD.
fn text(regs: &mut dyn Registers, address: u32, bytes: u32) -> Result<String, AccessError> {
    let mut text = Vec::new();
    for at in (0..bytes).step_by(4) {
        let word = regs.read32(address + at)?;
        if is_no_answer(word) {
            break;
        }
        text.extend(word.to_be_bytes());
        if word.to_be_bytes().contains(&0) {
            break;
        }
    }
    text.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
    let text = String::from_utf8_lossy(&text);
    Ok(text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect())
}
