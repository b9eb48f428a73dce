//! From a host's output to the driver's conclusion, without a host: for property tests and the fuzz
//! target `xl`. Each function runs the code that is used with a connection.

use super::host::{CpuTime, Ours, sift};
use super::job;
use super::live::Watch;
use super::load;
use super::parse::{Nonsense, domains};
use super::resolution::{Act, Place, Side, resolution, side};
use super::tag::Tag;
use crate::{DiscoveredVm, ServerLoad};
use std::sync::Mutex;
use tandem_model::{Bytes, Progress, ServerId, VmId};
use tokio::time::Instant;

/// From `xl list -v` to the VMs that the core gets.
///
/// # Errors
/// As the driver's own.
pub fn found(site: &str, server: ServerId, list: &str) -> Result<Vec<DiscoveredVm>, Nonsense> {
    let found =
        |o: Ours| DiscoveredVm { vm: o.vm, server, state: o.state(), name: o.domain.name, spec: None };
    Ok(sift(Tag::of(site), domains(list)?).into_iter().map(found).collect())
}

/// The UUID of a site's VM, as a host prints it.
pub fn uuid(site: &str, vm: VmId) -> Option<String> {
    Tag::of(site).uuid(vm)
}

/// From several outputs of the load script to the loads after the last.
///
/// # Errors
/// As the driver's own.
pub fn loads<'t>(site: &str, texts: impl IntoIterator<Item = &'t str>) -> Result<ServerLoad, Nonsense> {
    let cpu = Mutex::new(CpuTime::default());
    let mut last = Err(Nonsense(String::new()));
    for text in texts {
        last = load::read(text, Tag::of(site), &cpu);
    }
    last
}

/// Whether the VM runs; on either side, whether the domain is destroyed, and whether it is resumed.
pub type Settling = (Option<bool>, [bool; 2], [bool; 2]);

/// From the lists of both hosts after an interrupted migration (`None`: a host does not answer) to
/// the VM's place: true for the target, false for the source, `None` if it is lost or unknown. Also
/// whether each side's domain is resumed, and whether it is destroyed.
///
/// # Errors
/// As the driver's own.
pub fn resolved(
    site: &str,
    vm: VmId,
    source: Option<&str>,
    target: Option<&str>,
) -> Result<Settling, Nonsense> {
    let look = |text: Option<&str>| match text {
        None => Ok(Side::Silent),
        Some(text) => {
            let ours = sift(Tag::of(site), domains(text)?).into_iter().filter(|o| o.vm == vm);
            Ok(side(&ours.collect::<Vec<_>>()))
        }
    };
    let (acts, place) = resolution(look(source)?, look(target)?);
    let has = |act: Act| acts.contains(&act);
    let place = match place {
        Place::Source => Some(false),
        Place::Target => Some(true),
        Place::Lost | Place::Unknown => None,
    };
    let runs = [has(Act::ResumeSource), has(Act::UnpauseTarget)];
    Ok((place, runs, [has(Act::DestroySource), has(Act::DestroyTarget)]))
}

/// From several outputs about a migration's process to its progress, and whether the guest was
/// suspended.
pub fn followed<'t>(memory: Bytes, texts: impl IntoIterator<Item = &'t str>) -> (Progress, bool) {
    let mut watch = Watch::new(Instant::now(), memory);
    let (mut offset, mut progress) = (0, Progress::default());
    for text in texts {
        let look = job::read(text, offset);
        offset = look.offset;
        progress = watch.see(&look, Instant::now());
    }
    (progress, watch.log.suspended)
}
