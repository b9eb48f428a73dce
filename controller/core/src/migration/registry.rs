//! The built-in migration policies: a file each, and one line of a table in its folder. The first
//! of a table is what a site without a word gets.

use crate::migration::policies::{DestinationSelector, HotspotDetector, TransferPathPolicy, VmSelector};
use crate::migration::{destinations, detectors, selectors, transfer_paths};
use crate::policy::registry::{Make, Named};

/// For `[migration] detector`.
pub const DETECTORS: &[Make<dyn HotspotDetector>] = detectors::ALL;

/// For `[migration] selector`.
pub const SELECTORS: &[Make<dyn VmSelector>] = selectors::ALL;

/// For `[migration] destination`.
pub const DESTINATIONS: &[Make<dyn DestinationSelector>] = destinations::ALL;

/// For `[migration] transfer_path`.
pub const TRANSFER_PATHS: &[Make<dyn TransferPathPolicy>] = transfer_paths::ALL;

impl Named for dyn HotspotDetector {
    fn named(&self) -> &str {
        self.name()
    }
}

impl Named for dyn VmSelector {
    fn named(&self) -> &str {
        self.name()
    }
}

impl Named for dyn DestinationSelector {
    fn named(&self) -> &str {
        self.name()
    }
}

impl Named for dyn TransferPathPolicy {
    fn named(&self) -> &str {
        self.name()
    }
}
