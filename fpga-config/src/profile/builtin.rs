//! The profiles and boards that are part of this crate. A test parses each of them.

use super::{Profile, ProfileError};

/// The text of each board file.
pub(super) const BOARDS: &[&str] = &[
    include_str!("../../profiles/boards/netfpga-1g.toml"),
    include_str!("../../profiles/boards/netfpga-10g.toml"),
    include_str!("../../profiles/boards/netfpga-sume.toml"),
    include_str!("../../profiles/boards/netfpga-plus.toml"),
];

/// The name and text of each profile, in the order in which a card is probed for them.
pub const PROFILES: &[(&str, &str)] = &[
    ("openflow-switch", include_str!("../../profiles/openflow-switch.toml")),
    ("openflow-switch-alternate", include_str!("../../profiles/openflow-switch-alternate.toml")),
    ("reference-nic", include_str!("../../profiles/reference-nic.toml")),
    ("reference-switch", include_str!("../../profiles/reference-switch.toml")),
    ("reference-router", include_str!("../../profiles/reference-router.toml")),
    ("router-buffer-sizing", include_str!("../../profiles/router-buffer-sizing.toml")),
    ("tutorial-router", include_str!("../../profiles/tutorial-router.toml")),
    ("packet-generator", include_str!("../../profiles/packet-generator.toml")),
];

/// The profile of this name.
///
/// # Errors
/// When there is none, with the names there are.
pub fn named(name: &str) -> Result<Profile, ProfileError> {
    match PROFILES.iter().find(|(n, _)| *n == name) {
        Some((name, text)) => Profile::parse(name, text),
        None => {
            let known = PROFILES.iter().map(|(n, _)| (*n).to_owned()).collect();
            Err(ProfileError::new(name, vec![super::Fault::NoSuchProfile { known }]))
        }
    }
}

/// All profiles.
///
/// When one of them is invalid, which a test of this crate rules out.
pub fn all() -> Result<Vec<Profile>, ProfileError> {
    PROFILES.iter().map(|(name, text)| Profile::parse(name, text)).collect()
}
