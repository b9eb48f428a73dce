//! The driver's sections of the hypervisors file: `[[lab]]`, one for each lab with servers of the
//! site. Without a file, a lab with the site's name has all of them.

use super::{Lab, default_world};
use crate::Driver;
use crate::config::Image;
use crate::config::read::Shared;
use crate::registry::{DriverConfig, DriverKind};
use std::path::PathBuf;
use std::sync::Arc;
use tandem_model::site::{Collector, Section};
use tandem_model::{ServerId, Site};

/// A lab's hypervisor service.
pub const DRIVER: DriverKind = DriverKind {
    name: "lab",
    section: "lab",
    parts: "labs",
    read: |root, c, shared| {
        let labs = root.list(c, "lab").into_iter().map(|s| lab(s, c, shared)).collect();
        Box::new(LabSection { labs })
    },
};

/// All sections `[[lab]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabSection {
    /// The labs.
    pub labs: Vec<LabConfig>,
}

/// A lab with servers of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabConfig {
    /// Its hypervisor service's Unix socket: a path, or `@NAME` for one without a file.
    pub service: PathBuf,
    /// Its servers.
    pub servers: Vec<ServerId>,
}

impl LabConfig {
    /// The lab of a whole site, if there is no hypervisors file: at `service`, or the one of this
    /// user with the site's name.
    pub fn of_site(site: &Site, service: Option<PathBuf>) -> LabConfig {
        LabConfig {
            service: service.unwrap_or_else(|| default_world(&site.name)),
            servers: (0..).zip(&site.topology.servers).map(|(n, _)| ServerId(n)).collect(),
        }
    }

    /// Creates the driver, without connecting.
    pub fn open(&self) -> Driver {
        Driver::Service(Arc::new(Lab::new(self.service.clone(), self.servers.clone())))
    }
}

impl DriverConfig for LabSection {
    fn parts(&self) -> usize {
        self.labs.len()
    }

    fn servers(&self) -> Vec<ServerId> {
        self.labs.iter().flat_map(|lab| lab.servers.iter().copied()).collect()
    }

    /// A lab has images of its own.
    fn needs_images(&self) -> bool {
        false
    }

    fn open(&self, _site: &str, _images: &[Image]) -> anyhow::Result<Vec<Driver>> {
        Ok(self.labs.iter().map(LabConfig::open).collect())
    }
}

fn lab(mut s: Section<'_>, c: &mut Collector<'_>, shared: &mut Shared<'_>) -> LabConfig {
    let service = s.text(c, "service").map(|text| match text.strip_prefix('@') {
        Some(_) => PathBuf::from(text),
        None => shared.folder.join(text),
    });
    let servers = shared.servers(&mut s, c, "servers");
    if servers.is_empty() {
        let instead = "write servers = [\"srv1\"], or leave the section out";
        s.fault(c, "servers", "the lab has no server: others have them all", instead);
    }
    s.finish(c);
    LabConfig { service: service.unwrap_or_else(|| default_world(&shared.site.name)), servers }
}
