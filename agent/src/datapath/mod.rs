//! Datapaths: kinds of switches. A datapath sets up switches as desired, reports their state and
//! counters, and releases them.
//!
//! Each kind has a folder here and a line in the model's list
//! ([`tandem_model::with_datapath_kinds`]), from which [`registry::REGISTRY`] is generated. The
//! folder's `ENTRY` has the functions and constants of a kind that are needed before a datapath is
//! open: the check of its part of agent.toml, how it is opened, its checks in the doctor, and what
//! a lab sets up for it. `docs/howto/add-a-datapath.md` adds one step by step.

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
    /// The agent's daemon: switches may run inside the process, and the applied state is
    /// maintained.
    Daemon,
    /// A single command: only its own request is executed.
    Command,
}

/// A datapath. All calls block; they come one at a time, from one thread.
pub trait Datapath: Send {
    /// Its switches and ports, with the queue selection and speed of each port.
    fn capabilities(&mut self) -> Vec<SwitchCapabilities>;

    /// Faults in a desired state that it cannot set up, found without changing anything. A fault of
    /// a switch (without a port) refuses the whole switch.
    fn validate(&mut self, wanted: &[Switch]) -> Vec<Fault>;

    /// Switches whose forwarding would be interrupted, each with the reason; found without changing
    /// anything.
    fn disruptive_changes(&mut self, wanted: &[Switch]) -> Vec<Fault>;

    /// Applies the difference between the actual and the wanted state. Parts that fail are
    /// reported, the rest is applied. Switches named in `left` were refused: they stay as they are.
    /// `adopt` says which foreign switches may be adopted; the interruptions that
    /// [`Datapath::disruptive_changes`] names are then measured and reported by
    /// [`Datapath::take_events`].
    fn apply(&mut self, wanted: &[Switch], left: &[String], adopt: Adopt) -> ApplyResult;

    /// Repairs changes by others, and sets up interfaces that have come back since the last call.
    /// It is called every second and has to be cheap when nothing has changed.
    fn reconcile(&mut self) -> ApplyResult;

    /// Events for people, each reported once. With `wait`, waits for measurements that are under
    /// way.
    fn take_events(&mut self, wait: bool) -> Vec<Fault>;

    /// State and counters of switches and ports. `wanted` is the state that was applied last.
    fn report(&mut self, wanted: &[Switch]) -> Vec<SwitchReport>;

    /// Controllers and flows of the switches inside this program, by the switch's name.
    fn dump_flows(&mut self) -> Vec<(String, SwitchDump)> {
        Vec::new()
    }

    /// Restores everything to its state before the adoption, except for changes by others since,
    /// which stay and are returned as text.
    ///
    /// # Errors With what could not be restored.
    fn release(&mut self) -> Result<Vec<String>, String>;
}
