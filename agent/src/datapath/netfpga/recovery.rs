//! Recovers a card whose data path lags or has stopped: detects it, resets the card, and writes its
//! tables again.
//!
//! ```text
//! Watching --a sign that lasts--> Ill --its pause is over--> Clearing --the exact table answers--> Watching
//! ```
//!
//! 1. The card's health is checked ten times a second (`tandem_fpga_config::health`): about ten
//!    registers, which no other process may read.
//! 2. An unhealthy card is reset at once, but after three resets in a minute only after a growing
//!    pause ([`Pauses`]).
//! 3. Before the reset all counters and other volatile state are read. Then follow the reset pulse,
//!    and the 4.2 ms in which the card clears its exact table; meanwhile packets between the plain
//!    NICs are forwarded.
//! 4. Then the settings, rows, exact entries and the watchdog are written, and the limiters at the
//!    next upkeep.
//!
//! A card that does not answer meanwhile, and one that another process resets, are handled as at
//! any other time (`offload_io.rs`); the outage ends when everything is written.

use super::offload_io::CardIo;
use super::open::chain;
use super::{CardState, DataPath, shared};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tandem_fpga_card::{Card, info};
use tandem_fpga_config::health::{DRAIN, Health, Look, Pauses, Verdict};
use tandem_fpga_config::profile::Profile;
use tandem_fpga_config::registers::{AccessError, Registers, is_no_answer};
use tandem_fpga_config::settings::Settings;
use tandem_model::Time;
use tandem_openflow::switch::Switch;

/// The interval of health checks.
const LOOK: Duration = Duration::from_millis(100);
/// The interval while a sign of a fault lasts.
const CLOSER: Duration = Duration::from_millis(25);
/// How long after a reset the exact table is not read: the clearing takes 4.2 ms.
const CLEARING: Duration = Duration::from_millis(5);
/// How long a card may take to answer after a reset. The clearing takes a simulation seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// CTRL of the bus FPGA, and its bit that resets the user FPGA while it is written.
const CONTROL: u32 = 0x008;
const RESET: u32 = 1 << 8;
/// Bits of a MAC's CONTROL: RX queue off, MAC in reset, MAC RX off. Frames in such a queue wait for
/// ever.
const NOT_RECEIVING: u32 = 0b1_0110;
/// The bits that turn a receiver off: RX queue and MAC RX.
const MUTE: u32 = 0b1_0010;
/// The longest frame without FCS that a MAC accepts with any setting.
const LONGEST: usize = 1514;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Watching,
    /// It is unhealthy, and is reset at that time.
    Ill(Time),
    /// It was reset at that time.
    Clearing(Time),
}

/// The present outage.
#[derive(Debug, Clone)]
struct Outage {
    /// The last check without a sign of a fault.
    since: Time,
    why: String,
}

/// The state of the recovery.
pub(super) struct Recovery {
    health: Health,
    pauses: Pauses,
    state: State,
    outage: Option<Outage>,
    /// The last check without a sign of a fault.
    good: Time,
    next: Time,
    /// Frames that were sent into each port and are not known to have entered the data path.
    offered: [u64; 4],
    settings: Settings,
    /// Frames that each port's MAC had received when the tables were last written, and the ports
    /// that had received frames before every stop since.
    received: BTreeMap<u32, u64>,
    suspects: Option<BTreeSet<u32>>,
    /// A port whose receiver is off, until that time.
    muted: Option<(u32, Time)>,
    outages: u64,
    total: Duration,
}

impl Recovery {
    pub(super) fn new() -> Recovery {
        Recovery {
            health: Health::new(),
            pauses: Pauses::default(),
            state: State::Watching,
            outage: None,
            good: Time::ZERO,
            next: Time::ZERO,
            offered: [0; 4],
            settings: Settings::default(),
            received: BTreeMap::new(),
            suspects: None,
            muted: None,
            outages: 0,
            total: Duration::ZERO,
        }
    }

    /// Records a frame that was sent into a queue of the card.
    pub(super) fn offered(&mut self, queue: u8, length: usize) {
        if queue.is_multiple_of(2)
            && length <= LONGEST
            && let Some(offered) = self.offered.get_mut(usize::from(queue / 2))
        {
            *offered += 1;
        }
    }

    /// Whether the card is clearing its tables, so that nothing can be written.
    pub(super) fn is_clearing(&self) -> bool {
        matches!(self.state, State::Clearing(_))
    }

    /// Why the card forwards nothing; `None` if it does.
    pub(super) fn outage(&self) -> Option<&str> {
        self.outage.as_ref().map(|o| o.why.as_str())
    }

    /// When it has to be called next.
    pub(super) fn deadline(&self) -> Time {
        self.muted.map_or(self.next, |(_, until)| self.next.min(until))
    }

    /// The card did not answer, or was opened again: its state is unknown.
    pub(super) fn begin_anew(&mut self) {
        (self.health, self.state, self.offered) = (Health::new(), State::Watching, [0; 4]);
        (self.muted, self.good) = (None, Time::ZERO);
    }

    /// Lines about the card for people.
    pub(super) fn about(&self, now: Time) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(outage) = &self.outage {
            let left = match self.state {
                State::Ill(until) => format!("it is reset in {:.0} s", until.since(now).as_secs_f64().ceil()),
                State::Clearing(_) => "it was reset and is written anew".to_owned(),
                State::Watching => "it is written anew once it answers".to_owned(),
            };
            lines.push(format!("NOT FORWARDING: {}; {left}", outage.why));
        }
        if let Some((port, until)) = self.muted {
            let left = until.since(now).as_secs_f64().ceil();
            lines.push(format!(
                "the receiver of port {port} is off for {left:.0} s more: \
                 the stops seem to come from there"
            ));
        }
        if self.outages > 0 {
            lines.push(format!(
                "its data path has lagged or stopped {} times and was reset: {:.3} s without forwarding in all",
                self.outages,
                self.total.as_secs_f64()
            ));
        }
        lines
    }
}

impl CardIo {
    /// Checks the card when it is time, and continues a recovery.
    pub(super) fn recover(&mut self, switch: &mut Switch, now: Time) {
        self.unmute(now);
        if now >= self.recovery.next {
            match self.recovery.state {
                State::Clearing(since) => self.cleared(since, now),
                State::Watching | State::Ill(_) => self.look_at(switch, now),
            }
        }
        self.share(now);
    }

    /// All tables are written: an outage ends.
    pub(super) fn is_written(&mut self, now: Time) {
        if self.recovery.state != State::Watching || self.offload.is_none() {
            return;
        }
        let Some(outage) = self.recovery.outage.take() else { return };
        let took = now.since(outage.since);
        self.recovery.total += took;
        self.recovery.good = now;
        self.recovery.pauses.recovered(now);
        self.recovery.received = self.received();
        let why = format!(
            "the card forwards again: reset and written anew, {:.0} ms after it was last seen well",
            took.as_secs_f64() * 1e3
        );
        self.say(why);
        self.share(now);
    }

    /// Adds a notice; the worker logs it, and the session sends it to the controller.
    fn say(&self, why: String) {
        shared(&self.talk).note(why);
    }

    /// Publishes the card's state.
    pub(super) fn share(&self, now: Time) {
        let r = &self.recovery;
        let lasts = r.outage.as_ref().map_or(Duration::ZERO, |o| now.since(o.since));
        let path = match (&self.card, &r.outage, r.state) {
            (None, ..) => DataPath::Unreachable,
            (Some(_), None, _) => DataPath::Working,
            (Some(_), Some(_), State::Ill(_)) => DataPath::Stopped,
            (Some(_), Some(_), _) => DataPath::Recovering,
        };
        shared(&self.talk).card = Some(CardState { path, outages: r.outages, outage: r.total + lasts });
    }

    fn recovers(&self) -> bool {
        self.switch.card.as_ref().is_none_or(|c| c.recover)
    }

    fn look_at(&mut self, switch: &mut Switch, now: Time) {
        self.recovery.next = now + LOOK;
        let (Some(opened), Some(_)) = (&mut self.card, &self.offload) else { return };
        let look = match look(opened.card.as_mut(), &opened.profile, &mut self.recovery.offered) {
            Ok(Some(look)) => look,
            // The bitfile has no health registers.
            Ok(None) => return,
            Err(error) => return self.fail("looking at the card's data path", &error, now),
        };
        let verdict = self.recovery.health.look(look, now);
        if self.recovery.good == Time::ZERO {
            // The state before is unknown.
            self.recovery.good = now;
        }
        match (self.recovery.state, verdict) {
            (State::Watching, Verdict::Well) => self.recovery.good = now,
            (State::Watching, Verdict::Suspect) => self.recovery.next = now + CLOSER,
            (State::Watching, Verdict::Lags(_) | Verdict::Stopped(_)) => self.is_ill(verdict, now),
            (State::Ill(_), Verdict::Well) if look.entered > 0 => {
                // Another process has reset it.
                self.recovery.state = State::Watching;
                return self.is_written(now);
            }
            _ => {}
        }
        if let State::Ill(until) = self.recovery.state {
            if now >= until && self.recovers() {
                self.reset(switch, now);
            } else if now < until {
                self.recovery.next = self.recovery.next.min(until);
            }
        }
    }

    fn is_ill(&mut self, verdict: Verdict, now: Time) {
        let what = symptom(verdict);
        if let Err(error) = self.read_macs() {
            return self.fail("reading the card's counters", &error, now);
        }
        let received = self.received();
        let moved: BTreeSet<u32> = received
            .iter()
            .filter(|(port, n)| self.recovery.received.get(port).is_none_or(|before| before < n))
            .map(|(port, _)| *port)
            .collect();
        let r = &mut self.recovery;
        let pause = r.pauses.ill(now);
        let suspects = match r.suspects.take() {
            Some(before) if r.outages > 0 && r.pauses.is_repeated(now) => {
                before.intersection(&moved).copied().collect()
            }
            _ => moved,
        };
        r.outages += 1;
        let mut why = what.clone();
        let mut until = now + pause;
        let mute = self.switch.card.as_ref().is_some_and(|c| c.mute);
        if !pause.is_zero() {
            why = format!(
                "{what}; three times within a minute, so it is left so for {} s before it is reset again",
                pause.as_secs()
            );
            let guess = suspects.first().filter(|_| suspects.len() == 1).copied();
            if let Some(port) = guess.filter(|_| mute) {
                r.muted = Some((port, until));
                until = now;
                why = format!(
                    "{what}; three times within a minute, each after frames at port {port}: its receiver is off for {} s",
                    pause.as_secs()
                );
            } else if mute {
                why.push_str(&format!(
                    "; frames came in at {} ports, so none is switched off",
                    suspects.len()
                ));
            }
        }
        if !self.recovers() {
            why.push_str(
                "; recover = false, so reset it with `tandem-fpga reg write CPCI_CTRL`, or load its bitfile",
            );
        }
        let r = &mut self.recovery;
        r.suspects = Some(suspects);
        r.outage = Some(Outage { since: r.good, why: why.clone() });
        r.state = State::Ill(until);
        self.say(why);
    }

    /// Frames that the MACs have received, by OpenFlow number.
    fn received(&self) -> BTreeMap<u32, u64> {
        let of = |(number, at): (&u32, &u8)| {
            let name = format!("MAC_GRP_{at}_RX_QUEUE_NUM_PKTS_STORED");
            Some((*number, *self.counted.get(&name)?))
        };
        self.card_ports.iter().filter_map(of).collect()
    }

    /// Reads all volatile state, then sends the reset pulse.
    fn reset(&mut self, switch: &mut Switch, now: Time) {
        let outcome = (|| {
            self.read_macs()?;
            let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return Ok(()) };
            self.recovery.settings = Settings::read(&opened.profile, &mut opened.card)?;
            match offload.sweep_all(now, &mut opened.card) {
                Ok(deltas) => super::table_sync::add_counters(switch, deltas),
                // The look-up's registers may be blocked; their counts are lost then.
                Err(error) => tracing::warn!("switch {}: {}", self.switch.name, chain(&error)),
            }
            tracing::info!("switch {}: the card is reset", self.switch.name);
            let control = opened.card.read32(CONTROL)?;
            opened.card.write32(CONTROL, control | RESET)?;
            offload.was_reset();
            if let Some(macs) = &mut self.macs {
                macs.restart();
            }
            self.seconds = 0;
            Ok::<(), AccessError>(())
        })();
        if let Err(error) = outcome {
            return self.fail("resetting the card", &error, now);
        }
        self.rates.clear();
        self.recovery.health = Health::after_reset();
        self.recovery.offered = [0; 4];
        self.recovery.state = State::Clearing(now);
        self.recovery.next = now + CLEARING;
    }

    /// Checks after a reset whether the exact table answers; then writes the settings and the
    /// watchdog. The next `follow` writes the tables.
    fn cleared(&mut self, since: Time, now: Time) {
        self.recovery.next = now + CLEARING;
        let watched = self.watched();
        let Some(opened) = &mut self.card else { return };
        let Some(rows) = opened.profile.flow_table else { return };
        let (profile, muted) = (&opened.profile, self.recovery.muted);
        let outcome = (|| {
            if is_no_answer(opened.card.read32(rows.exact)?) {
                return Ok(false);
            }
            self.recovery.settings.write(&mut opened.card)?;
            if let Some(at) = muted.and_then(|(port, _)| self.card_ports.get(&port)) {
                receiver(opened.card.as_mut(), profile, *at, false)?;
            }
            if let Some(dog) = profile.watchdog.filter(|_| watched) {
                opened.card.write32(dog.enable, 1)?;
            }
            Ok::<bool, AccessError>(true)
        })();
        match outcome {
            Ok(true) => {
                self.recovery.state = State::Watching;
                self.recovery.next = now + LOOK;
            }
            Ok(false) if now.since(since) < PATIENCE => {}
            Ok(false) => {
                let error = AccessError::TimedOut {
                    access: tandem_fpga_config::registers::Access::Read(rows.exact),
                    within: PATIENCE,
                };
                self.fail("waiting for the card after its reset", &error, now);
            }
            Err(error) => self.fail("writing the card anew", &error, now),
        }
    }

    fn unmute(&mut self, now: Time) {
        let Some((port, _)) = self.recovery.muted.filter(|(_, until)| now >= *until) else { return };
        self.recovery.muted = None;
        let (Some(opened), Some(at)) = (&mut self.card, self.card_ports.get(&port)) else { return };
        match receiver(opened.card.as_mut(), &opened.profile, *at, true) {
            Ok(()) => self.say(format!("the receiver of port {port} is on again")),
            Err(error) => self.fail("switching a receiver on", &error, now),
        }
    }
}

/// Turns the receiver of a port of the card on or off.
fn receiver(card: &mut dyn Registers, profile: &Profile, port: u8, on: bool) -> Result<(), AccessError> {
    let Some(address) = profile.port_register("MAC_GRP", port, "CONTROL") else { return Ok(()) };
    let control = card.read32(address)?;
    card.write32(address, if on { control & !MUTE } else { control | MUTE })
}

/// The health registers; `None` if the bitfile has none, or they do not answer.
fn look(card: &mut dyn Card, profile: &Profile, offered: &mut [u64; 4]) -> Result<Option<Look>, AccessError> {
    let Some(path) = profile.data_path.as_ref().filter(|p| p.entered_clears) else { return Ok(None) };
    let entered = card.read32(path.entered)?;
    let mut waiting = 0;
    for (port, offered) in (0..).zip(offered.iter()) {
        let in_queue = match profile.port_register("MAC_GRP", port, "RX_QUEUE_NUM_PKTS_IN_QUEUE") {
            Some(address) => Some(card.read32(address)?).filter(|v| !is_no_answer(*v)).unwrap_or(0),
            None => 0,
        };
        let there = u64::from(in_queue) + offered;
        if there > 0 && receives(card, profile, port)? {
            waiting += there;
        }
    }
    card.wait(DRAIN);
    let mut decided = 0u32;
    for address in &path.decided {
        let value = card.read32(*address)?;
        if is_no_answer(value) {
            return Ok(None);
        }
        decided = decided.wrapping_add(value);
    }
    let meanwhile = card.read32(path.entered)?;
    if is_no_answer(entered) || is_no_answer(meanwhile) {
        return Ok(None);
    }
    if entered > 0 || meanwhile > 0 {
        *offered = [0; 4];
    }
    Ok(Some(Look { entered, waiting, decided, meanwhile }))
}

/// Whether a port accepts frames: its MAC's receiver and queue are on, and it has a link.
fn receives(card: &mut dyn Card, profile: &Profile, port: u8) -> Result<bool, AccessError> {
    if let Some(address) = profile.port_register("MAC_GRP", port, "CONTROL")
        && card.read32(address)? & NOT_RECEIVING != 0
    {
        return Ok(false);
    }
    Ok(info::link(card, profile, port)? != Some(false))
}

/// The symptom as text.
fn symptom(verdict: Verdict) -> String {
    match verdict {
        Verdict::Lags(1) => {
            "its look-up is a frame behind: frames leave by others' decisions, or not at all".to_owned()
        }
        Verdict::Lags(n) => {
            format!("its look-up is {n} frames behind: frames leave by others' decisions, or not at all")
        }
        _ => "its data path has stopped: frames wait and none is forwarded".to_owned(),
    }
}
