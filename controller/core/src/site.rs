//! Reads site files, for whoever runs the core: the policies that a file names must be among those
//! that there are.

use crate::migration::registry::{DESTINATIONS, DETECTORS, SELECTORS, TRANSFER_PATHS};
use crate::policy::registry::{ALLOCATION, ROUTING, names};
use tandem_model::Site;
use tandem_model::site::{Faults, PolicyNames, read_with};

/// The names of all policies, by the key of the site file that takes them; the first of each is what
/// a site without a word gets.
pub fn policies() -> [(&'static str, Vec<String>); 6] {
    [
        ("policy.allocation", names(ALLOCATION)),
        ("policy.routing", names(ROUTING)),
        ("migration.detector", names(DETECTORS)),
        ("migration.selector", names(SELECTORS)),
        ("migration.destination", names(DESTINATIONS)),
        ("migration.transfer_path", names(TRANSFER_PATHS)),
    ]
}

/// Reads and checks a site file.
///
/// # Errors
/// All faults, each with its line and column; a policy that is in no table of
/// [`policy::registry`](crate::policy::registry) or
/// [`migration::registry`](crate::migration::registry) is one.
pub fn read(text: &str, file: &str) -> Result<Site, Faults> {
    let known = PolicyNames {
        allocation: &names(ALLOCATION),
        routing: &names(ROUTING),
        detector: &names(DETECTORS),
        selector: &names(SELECTORS),
        destination: &names(DESTINATIONS),
        transfer_path: &names(TRANSFER_PATHS),
    };
    read_with(text, file, &known)
}
