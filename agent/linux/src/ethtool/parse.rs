//! Decodes and encodes the structures of linux/ethtool.h. Every length is checked before it is
//! used.

/// Bytes of a name (ETH_GSTRING_LEN).
pub(super) const STRING: usize = 32;
/// Bytes of `struct ethtool_drvinfo`.
pub(super) const DRIVER: usize = 196;
/// Bytes of `struct ethtool_link_settings` without its masks.
pub(super) const LINK: usize = 48;

/// A list of names that the kernel has of an interface (enum ethtool_stringset).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Set {
    Statistics = 1,
    Features = 4,
}

/// The driver of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// The driver's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The card's firmware.
    pub firmware: String,
    /// The card's address, e.g. on PCI; empty without a card.
    pub bus: String,
}

/// Whether both ends may send at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplex {
    /// One end at a time.
    Half,
    /// Both ends.
    Full,
}

/// The link's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Bit/s; absent where it is not known, as without a carrier.
    pub speed: Option<u64>,
    /// Absent where it is not known.
    pub duplex: Option<Duplex>,
    /// Whether it was negotiated; otherwise set by hand.
    pub negotiated: bool,
}

/// A feature of an interface, such as an offload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The kernel's name, e.g. `tx-checksum-ip-generic`.
    pub name: String,
    /// On.
    pub active: bool,
    /// The requested state, which the kernel may not have been able to set.
    pub requested: bool,
    /// It can be changed.
    pub changeable: bool,
}

/// The number at an offset.
pub(super) fn number(data: &[u8], offset: usize) -> Option<u32> {
    data.get(offset..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// A text of fixed length, up to its first zero.
fn text(data: &[u8]) -> String {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    String::from_utf8_lossy(&data[..end]).trim().to_owned()
}

/// struct ethtool_drvinfo: cmd, then texts of 32 bytes each: driver, version, fw_version, bus_info;
/// and more.
pub fn driver(answer: &[u8]) -> Option<Driver> {
    let field = |n: usize| answer.get(4 + n * 32..4 + (n + 1) * 32).map(text);
    Some(Driver { name: field(0)?, version: field(1)?, firmware: field(2)?, bus: field(3)? })
}

/// struct ethtool_link_settings: cmd, speed, duplex, port, phy_address, autoneg, mdio_support,
/// eth_tp_mdix, eth_tp_mdix_ctrl, link_mode_masks_nwords, ...
pub(super) fn link_request(command: u32, words: u8) -> Vec<u8> {
    let mut out = vec![0; LINK + usize::from(words) * 3 * 4];
    out[..4].copy_from_slice(&command.to_ne_bytes());
    out[15] = words;
    out
}

/// The length of masks that the kernel asks for, when it was asked with another one.
pub fn mask_words(answer: &[u8]) -> Option<u8> {
    let words = answer.get(15)?.cast_signed();
    (words < 0).then(|| words.unsigned_abs().min(127))
}

/// Decodes the reply of a kernel that got masks of the right length.
pub fn link(answer: &[u8]) -> Option<Link> {
    let speed = number(answer, 4)?;
    let duplex = match answer.get(8)? {
        0 => Some(Duplex::Half),
        1 => Some(Duplex::Full),
        _ => None,
    };
    // SPEED_UNKNOWN is all ones; some drivers report 0 for it.
    let known = speed != 0 && speed != u32::MAX;
    Some(Link {
        speed: known.then(|| u64::from(speed) * 1_000_000),
        duplex,
        negotiated: answer.get(11) == Some(&1),
    })
}

/// struct ethtool_sset_info: cmd, reserved, sset_mask, then a length per set.
pub(super) fn set_info_request(command: u32, set: Set) -> Vec<u8> {
    let mut out = [command, 0].map(u32::to_ne_bytes).concat();
    out.extend_from_slice(&(1u64 << (set as u32)).to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

/// The size of the only set that was requested; `None` if it does not exist, in which case its bit
/// in the mask is cleared.
pub fn set_size(answer: &[u8]) -> Option<usize> {
    let mask = answer.get(8..16)?;
    if mask.iter().all(|b| *b == 0) {
        return None;
    }
    number(answer, 16).map(|n| n as usize)
}

/// struct ethtool_gstrings: cmd, string_set, len, then names of 32 bytes.
pub fn strings(answer: &[u8]) -> Vec<String> {
    let count = number(answer, 8).unwrap_or_default() as usize;
    answer.get(12..).unwrap_or_default().chunks_exact(STRING).take(count).map(text).collect()
}

/// struct ethtool_stats: cmd, n_stats, then numbers of 64 bits.
pub fn statistics(answer: &[u8], names: &[String]) -> Vec<(String, u64)> {
    let count = number(answer, 4).unwrap_or_default() as usize;
    let numbers = answer.get(8..).unwrap_or_default().as_chunks::<8>().0;
    let numbers = numbers.iter().take(count).map(|b| u64::from_ne_bytes(*b));
    names.iter().cloned().zip(numbers).filter(|(name, _)| !name.is_empty()).collect()
}

/// struct ethtool_gfeatures: cmd, size, then blocks of available, requested, active, never_changed.
pub fn features(answer: &[u8], names: &[String]) -> Vec<Feature> {
    let count = number(answer, 4).unwrap_or_default() as usize;
    let bit = |n: usize, word: usize| {
        let value = number(answer, 8 + n / 32 * 16 + word * 4).filter(|_| n / 32 < count);
        value.map(|v| v >> (n % 32) & 1 == 1)
    };
    let feature = |(n, name): (usize, &String)| {
        let (available, fixed) = (bit(n, 0)?, bit(n, 3)?);
        Some(Feature {
            name: name.clone(),
            requested: bit(n, 1)?,
            active: bit(n, 2)?,
            changeable: available && !fixed,
        })
    };
    names.iter().enumerate().filter(|(_, name)| !name.is_empty()).filter_map(feature).collect()
}

/// struct ethtool_sfeatures: cmd, size, then blocks of valid, requested; `None` when there is no
/// such feature.
pub(super) fn feature_request(command: u32, names: &[String], wanted: &[(&str, bool)]) -> Option<Vec<u8>> {
    let mut blocks = vec![(0u32, 0u32); names.len().div_ceil(32)];
    for (feature, on) in wanted {
        let n = names.iter().position(|name| name == feature)?;
        let block = blocks.get_mut(n / 32)?;
        block.0 |= 1 << (n % 32);
        block.1 |= u32::from(*on) << (n % 32);
    }
    let mut out = [command, u32::try_from(blocks.len()).ok()?].map(u32::to_ne_bytes).concat();
    for (valid, requested) in blocks {
        out.extend_from_slice(&valid.to_ne_bytes());
        out.extend_from_slice(&requested.to_ne_bytes());
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_unknown_speed_is_absent_and_a_known_one_is_in_bits_a_second() {
        let mut answer = link_request(0x4c, 0);
        answer[4..8].copy_from_slice(&100u32.to_ne_bytes());
        answer[11] = 1;
        let seen = link(&answer).expect("whole");
        assert_eq!(seen, Link { speed: Some(100_000_000), duplex: Some(Duplex::Half), negotiated: true });
        answer[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        answer[8] = 0xff;
        let seen = link(&answer).expect("whole");
        assert_eq!((seen.speed, seen.duplex), (None, None));
        answer[15] = (-4i8).cast_unsigned();
        assert_eq!(mask_words(&answer), Some(4));
    }

    #[test]
    fn a_feature_is_found_by_its_bit_in_the_second_block_too() {
        let names: Vec<String> = (0..40).map(|n| format!("f{n}")).collect();
        let request = feature_request(0x3b, &names, &[("f33", true), ("f1", false)]).expect("they are there");
        assert_eq!(number(&request, 8), Some(2));
        assert_eq!(
            (number(&request, 12), number(&request, 16), number(&request, 20)),
            (Some(0), Some(2), Some(2))
        );
        assert_eq!(feature_request(0x3b, &names, &[("f40", true)]), None);
        // Available in the second block: bit 1; active the same; nothing fixed.
        let answer = [0x3au32, 2, 0, 0, 0, 0, 2, 0, 2, 0].map(u32::to_ne_bytes).concat();
        let on: Vec<Feature> = features(&answer, &names).into_iter().filter(|f| f.active).collect();
        assert_eq!(on.len(), 1);
        assert_eq!((on[0].name.as_str(), on[0].changeable, on[0].requested), ("f33", true, false));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left(answer in prop::collection::vec(any::<u8>(), 0..300)) {
            let names = strings(&answer);
            prop_assert!(names.len() <= answer.len() / STRING);
            prop_assert!(statistics(&answer, &names).len() <= names.len());
            prop_assert!(features(&answer, &names).len() <= names.len());
            let _ = (driver(&answer), link(&answer), mask_words(&answer), set_size(&answer));
        }
    }
}
