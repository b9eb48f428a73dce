//! Migration: when VMs are moved, which, where to and by which path; plans; and how a move is carried out.
//!
//! ```text
//! samples -> load, hotspot --when--> plan (which, where, order) --> execute (phases) --effects--> hypervisors, switches, store
//!                   asked, resize, evacuate, keep-policy -^                 ^-- events -----------------+
//! ```
//! Planning decides everything on paper and changes nothing; carrying out leaves no choice open.

mod asks;
mod begin;
mod books;
mod detour;
mod execute;
mod fork;
mod phases;
pub mod precopy;
mod recover;
pub(crate) mod state;
mod transfer;
mod undo;
mod union;
mod view;

pub use view::{HotspotView, LoadView, MigrationView, MoveState, PlanView};

use crate::core::Core;
use tandem_model::{LoadSample, MigrationEnd, MigrationId, PlanId, ServerId, VmId};

impl Core {
    /// What a server uses, as its hypervisor measures it.
    pub fn server_load(&self, _server: ServerId) -> Option<LoadView> {
        None
    }

    /// What a VM uses, as its hypervisor measures it.
    pub fn vm_load(&self, _vm: VmId) -> Option<LoadView> {
        None
    }

    /// True for a server that gets no more VMs.
    pub fn is_drained(&self, _server: ServerId) -> bool {
        false
    }

    pub(crate) fn on_server_samples(
        &mut self,
        _server: ServerId,
        _sample: LoadSample,
        _vms: Vec<(VmId, LoadSample)>,
    ) {
    }

    /// A migration has ended, well or not; it may have been a step of a plan.
    pub(crate) fn on_move_ended(
        &mut self,
        _migration: MigrationId,
        _plan: Option<PlanId>,
        _end: &MigrationEnd,
    ) {
    }
}
