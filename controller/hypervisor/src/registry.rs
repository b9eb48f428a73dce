//! The drivers that there are, one line each, and what each has to say of itself.

use crate::Driver;
use crate::config::read::Shared;
use crate::config::{Image, SecretError};
use std::any::Any;
use std::fmt::Debug;
use tandem_model::ServerId;
use tandem_model::site::{Collector, Section};

/// All drivers, in the order in which they read the hypervisors file: a lab, which may have all
/// servers that are left, is the last.
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
    /// What its sections are called when they are counted.
    pub parts: &'static str,
    /// Reads its sections. What is wrong with them goes to the collector, with line and column.
    pub read: fn(&mut Section<'_>, &mut Collector<'_>, &mut Shared<'_>) -> Box<dyn DriverConfig>,
}

/// What a driver has read of the hypervisors file.
pub trait DriverConfig: Any + Debug + Send + Sync {
    /// How many sections there are; without one, no driver is made.
    fn parts(&self) -> usize;

    /// Which servers of the site it has: one for a host, or all that a service has.
    fn servers(&self) -> Vec<ServerId>;

    /// Whether its VMs are made from the images of the file.
    fn needs_images(&self) -> bool {
        true
    }

    /// Checks that files with secrets are there, and nobody else's to read.
    ///
    /// # Errors
    /// The first one that is not.
    fn check_secrets(&self) -> Result<(), SecretError> {
        Ok(())
    }

    /// Makes the driver, or one for each section; nothing is connected yet. `site` is the site's name, which marks its VMs.
    ///
    /// # Errors
    /// When it cannot be made: a secret cannot be read, or no folder can be had.
    fn open(&self, site: &str, images: &[Image]) -> anyhow::Result<Vec<Driver>>;
}
