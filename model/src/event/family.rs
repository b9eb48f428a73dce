//! Who an event comes from.

use crate::Event;

/// The families of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventFamily {
    /// A switch's connection: the switch itself, its rules, and packets that it has seen.
    Switch,
    /// An agent's session.
    Agent,
    /// A hypervisor service: VMs, migrations, loads and generated traffic.
    Hypervisor,
    /// The controller itself: its store, its clock, and the API that it serves.
    Controller,
}

impl Event {
    /// Who it comes from.
    pub fn family(&self) -> EventFamily {
        match self {
            Event::SwitchUp { .. }
            | Event::SwitchDown { .. }
            | Event::SwitchTrouble { .. }
            | Event::PortChanged { .. }
            | Event::LinkSeen { .. }
            | Event::ArpSeen { .. }
            | Event::HostSeen { .. }
            | Event::DhcpSeen { .. }
            | Event::Samples { .. }
            | Event::PortSet { .. }
            | Event::PortRefused { .. }
            | Event::RulesApplied { .. }
            | Event::MetadataRefused { .. }
            | Event::RulesRefused { .. }
            | Event::RulesRepaired { .. }
            | Event::RulesLeft { .. }
            | Event::RulesUnlike { .. } => EventFamily::Switch,
            Event::AgentUp { .. }
            | Event::AgentHello { .. }
            | Event::AgentDown { .. }
            | Event::AgentTrouble { .. }
            | Event::PortsManaged { .. }
            | Event::AgentSamples { .. } => EventFamily::Agent,
            Event::WorldUp { .. }
            | Event::ServersUnreachable { .. }
            | Event::VmsFound { .. }
            | Event::WorldRefused { .. }
            | Event::RivalSeen { .. }
            | Event::WorldDown { .. }
            | Event::VmStarted { .. }
            | Event::VmDied { .. }
            | Event::VmFailed { .. }
            | Event::VmStopped { .. }
            | Event::VmResized { .. }
            | Event::MigrationProgress { .. }
            | Event::VmSuspended { .. }
            | Event::VmMoved { .. }
            | Event::MigrationFailed { .. }
            | Event::ServerSamples { .. }
            | Event::TrafficEnded { .. } => EventFamily::Hypervisor,
            Event::Stored { .. }
            | Event::StoreFailed { .. }
            | Event::Request { .. }
            | Event::WallClockStepped { .. }
            | Event::Wake => EventFamily::Controller,
        }
    }
}
