//! The drivers that there are.

use crate::{Hypervisor, config, xapi, xl};
use std::sync::Arc;

/// The drivers of a hypervisors file; nothing is connected yet. `site` is the site's name, which
/// marks its VMs.
///
/// # Errors
/// When a driver cannot be made.
pub fn drivers(file: &config::Hypervisors, site: &str) -> anyhow::Result<Vec<Arc<dyn Hypervisor>>> {
    let mut drivers: Vec<Arc<dyn Hypervisor>> = Vec::new();
    if !file.hosts.is_empty() {
        drivers.push(Arc::new(xl::Xl::new(site, &file.hosts, &file.images)?));
    }
    if !file.pools.is_empty() {
        let pools = file.pools.iter().map(xapi::config::PoolConfig::of).collect::<Result<_, _>>()?;
        drivers.push(Arc::new(xapi::Xapi::new(site, pools, file.images.clone())));
    }
    Ok(drivers)
}
