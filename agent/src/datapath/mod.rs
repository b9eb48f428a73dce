//! What a switch is made of. A datapath makes switches as they are desired, reports what they do,
//! and gives back what it made.
//!
//! Each kind has a folder here and a line in the model's list
//! ([`tandem_model::with_datapath_kinds`]), from which [`registry::REGISTRY`] is made. The folder's
//! `ENTRY` holds all that is asked of a kind before there is one: how its part of agent.toml is
//! checked, how it is opened, what the doctor looks at for it, what a lab sets up for it.
//! `docs/howto/add-a-datapath.md` adds one step by step.

mod mgmt_interfaces;
pub mod netfpga;
pub mod occupied;
pub mod ovs;
mod port_admin_state;
mod port_counters;
pub(crate) mod record;
pub mod registry;
mod report;
mod shaping;
pub mod soft;

pub use mgmt_interfaces::interfaces as mgmt_interfaces;
pub use registry::{Datapaths, queueing_in_record};
pub use report::{
    ApplyResult, ClassReport, PortCapabilities, PortReport, QueueSelection, SwitchCapabilities, SwitchReport,
};
pub use tandem_linux::ovsdb::Adopt;

use crate::desired::{Fault, Switch};
use soft::SwitchDump;

/// How long the process lives that opens a datapath.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// The agent's daemon: switches can live in it, and what was applied is kept so.
    Daemon,
    /// One command: nothing happens but what it asks for.
    Command,
}

/// What makes switches. All calls block; they come one at a time, from one thread.
pub trait Datapath: Send {
    /// What it has: each port with what can be done there.
    fn capabilities(&mut self) -> Vec<SwitchCapabilities>;

    /// What of a desired state it cannot do, found without changing anything. A fault of a switch
    /// (no port) refuses the whole switch.
    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault>;

    /// Switches whose forwarding would stop for a moment, each with the reason; found without
    /// changing anything.
    fn disruptive_changes(&mut self, wanted: &[Switch]) -> Vec<Fault>;

    /// Makes the difference between what is there and what is wanted. What cannot be done is
    /// reported, the rest is done. Switches named in `left` were refused: they stay as they are.
    /// `adopt` says which switches that somebody else has made may be taken over; what
    /// [`Datapath::disruptive_changes`] names is then measured and reported by
    /// [`Datapath::take_events`].
    fn apply(&mut self, wanted: &[Switch], left: &[String], adopt: Adopt) -> ApplyResult;

    /// Repairs what somebody else has changed, and what has come back, since the last call. It is
    /// called every second: where nothing has happened it is to cost next to nothing.
    fn reconcile(&mut self) -> ApplyResult;

    /// What has happened that somebody should know, each reported once. With `wait`, what is still
    /// being measured is waited for.
    fn take_events(&mut self, wait: bool) -> Vec<Fault>;

    /// What switches and ports are and have counted. `wanted` is what was applied last.
    fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport>;

    /// Controllers and flows of the switches that live in this program, by the switch's name.
    fn dump_flows(&mut self) -> Vec<(String, SwitchDump)> {
        Vec::new()
    }

    /// Gives back everything as it was found, except for what somebody else has changed since: that
    /// stays, and is returned as text.
    ///
    /// # Errors
    /// With what is left.
    fn release(&mut self) -> Result<Vec<String>, String>;
}
