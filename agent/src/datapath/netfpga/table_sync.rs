//! Keeps a card equal to the tables of its switch: writes rows and exact entries as flows change,
//! and adds the card's counts to the flows.

use super::config::{RowCounters, TransportChoice};
use super::offload_io::CardIo;
use tandem_fpga_config::codec::ports::{At, Port};
use tandem_fpga_config::codec::{PortMap, RejectReason, Transport};
use tandem_fpga_config::offload::{CounterDelta, Offload, OffloadError, Options, Place, Report};
use tandem_fpga_config::profile;
use tandem_fpga_config::registers::Registers;
use tandem_model::Time;
use tandem_openflow::switch::{Switch, config};

impl CardIo {
    pub(super) fn port_map(&self, bits: impl Fn(u32) -> u32) -> Result<PortMap, String> {
        let port = |p: &crate::config::PortConfig| {
            let at = p.card_port.map_or(At::Plain, At::Card);
            let bits = bits(p.number);
            Port {
                flood: bits & config::NO_FLOOD == 0,
                forward: bits & config::NO_FWD == 0,
                receive: bits & config::NO_RECV == 0,
                ..Port::new(p.number, p.interface.clone(), at)
            }
        };
        PortMap::new(self.switch.ports.iter().map(port).collect(), self.cpu_ports).map_err(|e| e.to_string())
    }

    /// Writes the tables' changes to the card.
    pub(super) fn follow(&mut self, switch: &mut Switch, now: Time) {
        let bits =
            |number: u32| switch.ports().find(|(p, _, _)| p.number == number).map_or(0, |(_, bits, _)| bits);
        let map = match self.port_map(bits) {
            Ok(map) => map,
            Err(why) => return self.trouble = Some(why),
        };
        match self.sync(switch, map, now) {
            Ok(report) => {
                self.reject(report);
                self.is_written(now);
            }
            Err(error) => self.fail("keeping the flows in the card", &error, now),
        }
        let flows: Vec<u64> = switch.pipeline().tables.iter().flat_map(|t| t.iter().map(|f| f.id)).collect();
        for id in flows {
            let place = match &self.offload {
                Some(offload) => offload.place(id).map(|p| match &p {
                    Place::Software(why @ RejectReason::NoSoftware(_)) => format!("nowhere: {why}"),
                    Place::Software(_) => p.to_string(),
                    place => match self.recovery.outage() {
                        Some(why) => format!("nowhere: {why}"),
                        None => place.to_string(),
                    },
                }),
                None if self.cpu_ports => Some("software: the card cannot be asked".to_owned()),
                None => Some("unknown: the card cannot be asked, and goes by what it has".to_owned()),
            };
            if switch.remark_of(id) != place.as_deref() {
                switch.remark(id, place);
            }
        }
    }

    /// Reports flows that do not fit the card, each once.
    pub(super) fn reject(&mut self, report: Report) {
        for (id, why) in &report.rejected {
            if self.rejected.insert(*id) {
                let name = &self.switch.name;
                self.lines.warn(|| {
                    format!("switch {name}: flow {id} is in no hardware, and there is no software: {why}")
                });
            }
        }
        if let Some(offload) = &self.offload {
            self.rejected.retain(|id| offload.place(*id).is_some_and(|p| matches!(p, Place::Software(_))));
        }
    }

    pub(super) fn transport(&self) -> Transport {
        match self.switch.card.as_ref().map(|c| c.transport) {
            Some(TransportChoice::Card) => Transport::Card,
            _ => Transport::Software,
        }
    }

    pub(super) fn sync(&mut self, switch: &Switch, map: PortMap, now: Time) -> Result<Report, OffloadError> {
        let (watched, transport) = (self.watched(), self.transport());
        let (Some(opened), Some(table)) = (&mut self.card, switch.pipeline().tables.first()) else {
            return Ok(Report::default());
        };
        if self.recovery.is_clearing() {
            return Ok(Report::default());
        }
        let row_counters = self.switch.card.as_ref().and_then(|c| c.row_counters).map(|r| match r {
            RowCounters::Accumulate => profile::RowCounters::Accumulate,
            RowCounters::ClearOnRead => profile::RowCounters::ClearOnRead,
        });
        let Some(rows) = opened.profile.flow_table else { return Ok(Report::default()) };
        if self.offload.is_none() {
            let options = Options { transport, row_counters, ..Options::default() };
            self.offload = Some(Offload::start(rows, map.clone(), options, now, &mut opened.card)?);
            if let Some(dog) = opened.profile.watchdog.filter(|_| watched) {
                opened.card.write32(dog.enable, 1)?;
            }
        }
        let Some(offload) = &mut self.offload else { return Ok(Report::default()) };
        offload.set_ports(map);
        offload.sync(table, now, &mut opened.card)
    }
}

pub(super) fn add_counters(switch: &mut Switch, deltas: Vec<CounterDelta>) {
    for c in deltas {
        switch.credit(c.flow, c.packets, c.bytes, c.last_used);
    }
}
