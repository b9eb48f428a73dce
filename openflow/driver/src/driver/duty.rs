//! The duties of a switch's connections when it has several: one is active, the others are standby.
//!
//! A standby connection keeps itself alive and tracks the switch's ports. It sends nothing else,
//! and the driver drops what the switch reports on it, so that no packet is reported twice. When
//! the active connection ends, a standby one announces the switch again, and the rules are compared
//! with the switch's flows; no flow is deleted in between.

use super::{Driver, Output};
use tandem_model::{Event, PortInfo, SwitchCaps, Time};

/// The duty of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// No duty is assigned yet; like [`Duty::Standby`], except that the switch gets no message
    /// about it.
    Undecided,
    /// The driver controls the switch over this connection, until it ends.
    Active,
    /// Another connection is the active one.
    Standby,
}

impl Driver {
    /// Starts a session with a switch that has just connected, and waits after the handshake for
    /// [`Driver::take_duty`].
    pub fn undecided(cfg: super::Config, peer: &str, now: Time, out: &mut Output) -> Driver {
        let mut driver = Driver::new(cfg, peer, now, out);
        driver.duty = Duty::Undecided;
        driver
    }

    /// The duty of this connection.
    pub fn duty(&self) -> Duty {
        self.duty
    }

    /// The switch's capabilities, once its handshake is done.
    pub fn caps(&self) -> Option<&SwitchCaps> {
        self.caps.as_ref()
    }

    /// Its ports, as it reported them.
    pub fn ports(&self) -> impl Iterator<Item = &PortInfo> {
        self.ports.values()
    }

    /// Bytes of changes that wait until the switch has confirmed earlier ones.
    pub fn backlog(&self) -> usize {
        self.pieces.backlog()
    }

    /// Assigns a duty to this connection, after the handshake. An active one stays active.
    pub fn take_duty(&mut self, duty: Duty, now: Time, out: &mut Output) {
        if !self.is_up() || self.duty == Duty::Active || self.duty == duty {
            return;
        }
        let before = std::mem::replace(&mut self.duty, duty);
        match duty {
            Duty::Undecided => {}
            // A switch without such a message (1.0) reports everything on both connections; what it
            // reports here is dropped.
            Duty::Standby => drop(self.send(out, |s, xid, o| s.set_async(xid, false, o))),
            Duty::Active => {
                if before == Duty::Standby {
                    self.send(out, |s, xid, o| s.set_async(xid, true, o));
                }
                self.next_poll = now + self.cfg.poll_period;
                self.next_lldp = self.cfg.lldp_period.map(|_| now);
                self.announce(out);
            }
        }
    }

    /// Reports the switch to the core.
    pub(super) fn announce(&mut self, out: &mut Output) {
        let Some(caps) = self.caps.clone() else { return };
        let ports = self.ports.values().cloned().collect();
        out.events.push(Event::SwitchUp { switch: self.dpid, ports, caps });
    }

    pub(super) fn is_active(&self) -> bool {
        self.is_up() && self.duty == Duty::Active
    }

    /// Sends an echo request, because the same switch has connected from elsewhere.
    pub fn probe(&mut self, now: Time, out: &mut Output) {
        self.session.probe(now, &mut out.bytes);
    }

    /// Tells the switch in an error message why its connection is closed.
    pub fn dismiss(&mut self, why: &str, out: &mut Output) {
        self.session.dismiss(why, &mut out.bytes);
    }
}
