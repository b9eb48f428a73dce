//! The registry of drivers, one line each, and the interface of their configuration.

use crate::Driver;
use crate::config::read::Shared;
use crate::config::{Image, SecretError};
use std::any::Any;
use std::fmt::Debug;
use tandem_model::ServerId;
use tandem_model::site::{Collector, Section};

/// All drivers, in the order in which they read the hypervisors file: a lab comes last, as it may
/// take all servers that are left.
pub const DRIVERS: &[DriverKind] = &[
    crate::xl::section::DRIVER,   // [[host]]: plain Xen over ssh
    crate::xapi::section::DRIVER, // [[pool]]: XCP, XenServer, XCP-ng
    crate::lab::section::DRIVER,  // [[lab]]: the service of a lab
];

/// A kind of driver.
pub struct DriverKind {
    /// Its name, for people.
    pub name: &'static str,
    /// The key of its sections in the hypervisors file: `host` for `[[host]]`.
    pub section: &'static str,
    /// The name of its sections in counts.
    pub parts: &'static str,
    /// Reads its sections; faults go to the collector, with line and column.
    pub read: fn(&mut Section<'_>, &mut Collector<'_>, &mut Shared<'_>) -> Box<dyn DriverConfig>,
}

/// A driver's part of the hypervisors file.
pub trait DriverConfig: Any + Debug + Send + Sync {
    /// Number of sections; without one, no driver is created.
    fn parts(&self) -> usize;

    /// Its servers of the site: one for a host, or all of a service.
    fn servers(&self) -> Vec<ServerId>;

    /// Whether its VMs are created from the images in the file.
    fn needs_images(&self) -> bool {
        true
    }

    /// Checks that files with secrets exist, and are readable by this user only.
    ///
    /// The first fault.
    fn check_secrets(&self) -> Result<(), SecretError> {
        Ok(())
    }

    /// Creates the driver, or one for each section, without connecting. `site` is the site's name,
    /// which marks its VMs.
    ///
    /// When it cannot be created: a secret cannot be read, or a folder cannot be created.
    fn open(&self, site: &str, images: &[Image]) -> anyhow::Result<Vec<Driver>>;
}
