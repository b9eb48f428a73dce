//! What has changed in the data centre, as it happens: the events of `GET /api/v1/events`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use tandem_model::text::escaped;
use tandem_model::{
    HotPlace, Mac, NodeId, PlanId, PortNo, Resource, ServerId, Site, SiteEvent, SwitchId, Time, VmId,
};
use utoipa::ToSchema;

/// One event of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct EventView {
    /// Its number, larger than those of all earlier ones; also the `id:` of the stream.
    pub id: u64,
    /// When it happened, by the wall clock: nanoseconds since 1970.
    pub at: Time,
    /// What has changed.
    #[serde(flatten)]
    pub change: Change,
}

/// What has changed. Its `kind` is also the `event:` of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Change {
    /// A host was seen that was not there before. Of machines that nobody declared there is at most
    /// one event per switch port and minute.
    HostJoined(HostAt),
    /// A host was seen at another port than before.
    HostMoved(HostAt),
    /// A host answers no more.
    HostLost(HostAt),
    /// Traffic may be sent over a link again.
    LinkUp {
        /// Its name, as in `GET /api/v1/links`.
        link: String,
    },
    /// No traffic may be sent over a link any more.
    LinkDown {
        /// Its name, as in `GET /api/v1/links`.
        link: String,
    },
    /// A switch has connected.
    SwitchUp {
        /// Its name.
        switch: String,
    },
    /// A switch has lost its connection. It goes on forwarding by the rules that it has.
    SwitchDown {
        /// Its name.
        switch: String,
    },
    /// Too much of a server or of a link is used, or will be as the trend has it.
    HotspotFound {
        /// The server's or the link's name.
        place: String,
        /// Of what.
        resource: Resource,
        /// The share in use, 0 to 1, and above; where it is only expected, the expected share.
        ratio: f64,
        /// True when only the trend says so.
        expected: bool,
    },
    /// It is no hotspot any more, or nobody measures it any more.
    HotspotCooled {
        /// The server's or the link's name.
        place: String,
        /// Of what.
        resource: Resource,
    },
    /// A VM runs: it was started, started again, or adopted as it ran.
    VmStarted {
        /// Its id.
        vm: VmId,
        /// The server's name.
        server: String,
    },
    /// A VM that has run is gone, whatever ended it.
    VmEnded {
        /// Its id.
        vm: VmId,
        /// The server's name.
        server: String,
    },
    /// A VM runs on another server than before.
    VmMoved {
        /// Its id.
        vm: VmId,
        /// The name of the server that it was on.
        from: String,
        /// The name of the server that it is on.
        to: String,
    },
    /// A plan is being carried out.
    PlanBegun {
        /// Its id.
        plan: PlanId,
        /// Its moves.
        moves: u32,
    },
    /// No move of a plan waits or is under way any more.
    PlanEnded {
        /// Its id.
        plan: PlanId,
        /// Its moves.
        moves: u32,
        /// Those of them that were done.
        done: u32,
    },
    /// Events were missed: they are not kept any more, or the controller has started again. What the
    /// client knows may be out of date; it has to read again what it needs. The events that are
    /// still kept follow.
    Missed {},
    /// A kind that only newer controllers have.
    #[serde(other)]
    Other,
}

/// A host, and where it is or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostAt {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IP address, where it is known.
    #[schema(value_type = Option<String>)]
    pub ip: Option<Ipv4Addr>,
    /// The switch's name.
    pub switch: String,
    /// The port of that switch.
    pub port: PortNo,
}

impl Change {
    /// A change with the names of the site that it is of.
    pub fn of(site: &Site, event: &SiteEvent) -> Change {
        let topology = &site.topology;
        let server = |id: ServerId| topology.name(NodeId::Server(id)).to_owned();
        let switch = |id: SwitchId| topology.name(NodeId::Switch(id)).to_owned();
        let place = |place: HotPlace| match place {
            HotPlace::Server(id) => server(id),
            HotPlace::Link(id) => topology.link_name(id),
        };
        match *event {
            SiteEvent::HostJoined { mac, ip, switch: at, port } => {
                Change::HostJoined(HostAt { mac, ip, switch: switch(at), port })
            }
            SiteEvent::HostMoved { mac, ip, switch: at, port } => {
                Change::HostMoved(HostAt { mac, ip, switch: switch(at), port })
            }
            SiteEvent::HostLost { mac, ip, switch: at, port } => {
                Change::HostLost(HostAt { mac, ip, switch: switch(at), port })
            }
            SiteEvent::LinkUp { link } => Change::LinkUp { link: topology.link_name(link) },
            SiteEvent::LinkDown { link } => Change::LinkDown { link: topology.link_name(link) },
            SiteEvent::SwitchUp { switch: id } => Change::SwitchUp { switch: switch(id) },
            SiteEvent::SwitchDown { switch: id } => Change::SwitchDown { switch: switch(id) },
            SiteEvent::HotspotFound { place: at, resource, ratio, expected } => {
                Change::HotspotFound { place: place(at), resource, ratio, expected }
            }
            SiteEvent::HotspotCooled { place: at, resource } => {
                Change::HotspotCooled { place: place(at), resource }
            }
            SiteEvent::VmStarted { vm, server: at } => Change::VmStarted { vm, server: server(at) },
            SiteEvent::VmEnded { vm, server: at } => Change::VmEnded { vm, server: server(at) },
            SiteEvent::VmMoved { vm, from, to } => Change::VmMoved { vm, from: server(from), to: server(to) },
            SiteEvent::PlanBegun { plan, moves } => Change::PlanBegun { plan, moves },
            SiteEvent::PlanEnded { plan, moves, done } => Change::PlanEnded { plan, moves, done },
        }
    }

    /// The name of its kind: `event:` of the stream.
    pub fn kind(&self) -> &'static str {
        match self {
            Change::HostJoined(_) => "host_joined",
            Change::HostMoved(_) => "host_moved",
            Change::HostLost(_) => "host_lost",
            Change::LinkUp { .. } => "link_up",
            Change::LinkDown { .. } => "link_down",
            Change::SwitchUp { .. } => "switch_up",
            Change::SwitchDown { .. } => "switch_down",
            Change::HotspotFound { .. } => "hotspot_found",
            Change::HotspotCooled { .. } => "hotspot_cooled",
            Change::VmStarted { .. } => "vm_started",
            Change::VmEnded { .. } => "vm_ended",
            Change::VmMoved { .. } => "vm_moved",
            Change::PlanBegun { .. } => "plan_begun",
            Change::PlanEnded { .. } => "plan_ended",
            Change::Missed {} => "missed",
            Change::Other => "other",
        }
    }
}

impl fmt::Display for HostAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mac)?;
        if let Some(ip) = self.ip {
            write!(f, " ({ip})")?;
        }
        write!(f, " at {}.{}", escaped(&self.switch), self.port)
    }
}

/// What is said of it in one line, for people.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::HostJoined(host) | Change::HostMoved(host) | Change::HostLost(host) => host.fmt(f),
            Change::LinkUp { link } | Change::LinkDown { link } => escaped(link).fmt(f),
            Change::SwitchUp { switch } | Change::SwitchDown { switch } => escaped(switch).fmt(f),
            Change::HotspotFound { place, resource, ratio, expected } => {
                let when = if *expected { "is expected to use" } else { "uses" };
                write!(f, "{} {when} {:.0}% of its {resource}", escaped(place), ratio * 100.0)
            }
            Change::HotspotCooled { place, resource } => write!(f, "{}, its {resource}", escaped(place)),
            Change::VmStarted { vm, server } | Change::VmEnded { vm, server } => {
                write!(f, "{vm} on {}", escaped(server))
            }
            Change::VmMoved { vm, from, to } => {
                write!(f, "{vm} from {} to {}", escaped(from), escaped(to))
            }
            Change::PlanBegun { plan, moves } => write!(f, "{plan}, {moves} moves"),
            Change::PlanEnded { plan, moves, done } => {
                write!(f, "{plan}, {done} of {moves} moves were done")
            }
            Change::Missed {} => f.write_str("events before these are not known any more"),
            Change::Other => f.write_str("of a kind that only newer commands know"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::LinkId;

    fn site() -> Site {
        tandem_model::site::read("[topology]\nshape = \"linear\"\n", "site.toml").expect("a good site")
    }

    fn all() -> Vec<SiteEvent> {
        let (mac, ip, switch, port) = (Mac([2, 0, 0, 0, 0, 1]), None, SwitchId(0), PortNo(1));
        let (link, vm, server, plan) = (LinkId(0), VmId(7), ServerId(0), PlanId(3));
        let (place, resource) = (HotPlace::Link(link), Resource::Link);
        vec![
            SiteEvent::HostJoined { mac, ip, switch, port },
            SiteEvent::HostMoved { mac, ip, switch, port },
            SiteEvent::HostLost { mac, ip, switch, port },
            SiteEvent::LinkUp { link },
            SiteEvent::LinkDown { link },
            SiteEvent::SwitchUp { switch },
            SiteEvent::SwitchDown { switch },
            SiteEvent::HotspotFound { place, resource, ratio: 0.9, expected: false },
            SiteEvent::HotspotCooled { place: HotPlace::Server(server), resource: Resource::Cpu },
            SiteEvent::VmStarted { vm, server },
            SiteEvent::VmEnded { vm, server },
            SiteEvent::VmMoved { vm, from: server, to: server },
            SiteEvent::PlanBegun { plan, moves: 2 },
            SiteEvent::PlanEnded { plan, moves: 2, done: 1 },
        ]
    }

    #[test]
    fn every_event_is_written_with_its_kind_and_read_again() {
        let site = site();
        for event in all() {
            let view = EventView { id: 9, at: Time(5), change: Change::of(&site, &event) };
            let value = serde_json::to_value(&view).expect("JSON");
            assert_eq!(value["kind"], event.name());
            assert_eq!((view.change.kind(), &value["id"]), (event.name(), &serde_json::json!(9)));
            assert_eq!(serde_json::from_value::<EventView>(value).expect("an event"), view);
            assert!(!view.change.to_string().is_empty());
        }
    }

    #[test]
    fn a_kind_of_a_newer_controller_is_read_as_such() {
        let text = r#"{"id":9,"at":5,"kind":"moon_landed","crew":3}"#;
        let view: EventView = serde_json::from_str(text).expect("an event");
        assert_eq!(view, EventView { id: 9, at: Time(5), change: Change::Other });
        let missed = EventView { id: 9, at: Time(5), change: Change::Missed {} };
        let text = serde_json::to_string(&missed).expect("JSON");
        assert_eq!(serde_json::from_str::<EventView>(&text).expect("an event"), missed);
    }
}
