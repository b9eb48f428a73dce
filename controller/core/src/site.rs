//! Reads site files, for whoever runs the core: the policies that a file names must be among those
//! that there are.

use crate::policy::registry;
use tandem_model::Site;
use tandem_model::site::{Faults, PolicyNames, read_with};

/// Reads and checks a site file.
///
/// # Errors
/// All faults, each with its line and column; a policy that is in no table of [`registry`] is one.
pub fn read(text: &str, file: &str) -> Result<Site, Faults> {
    let allocation = registry::names(registry::ALLOCATION);
    let routing = registry::names(registry::ROUTING);
    read_with(text, file, &PolicyNames { allocation: &allocation, routing: &routing })
}
