//! The profiles and boards that come with this crate. A test reads each of them; what is listed
//! here is what there is.

use super::{Profile, ProfileError};

/// Per board file its text.
pub(super) const BOARDS: &[&str] = &[
    include_str!("../../profiles/boards/netfpga-1g.toml"),
    include_str!("../../profiles/boards/netfpga-10g.toml"),
    include_str!("../../profiles/boards/netfpga-sume.toml"),
    include_str!("../../profiles/boards/netfpga-plus.toml"),
];

/// Per profile its name and its text, in the order in which a card is probed for them.
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

/// All of them.
///
/// # Errors
/// When one of them is not right, which a test of this crate excludes.
pub fn all() -> Result<Vec<Profile>, ProfileError> {
    PROFILES.iter().map(|(name, text)| Profile::parse(name, text)).collect()
}
