//! What servers consume.
//!
//! A server that holds VMs takes power linearly in its CPU's use, `idle + (peak - idle) * use`
//! (Fan, Weber and Barroso, "Power Provisioning for a Warehouse-sized Computer", ISCA 2007, section
//! 3: the linear model is within a few percent of measured machines). A server without VMs sleeps.
//! The defaults are the blade of Meisner, Gold and Wenisch ("PowerNap: Eliminating Server Idle
//! Power", ASPLOS 2009): 450 W at full load, 270 W idle, 10.4 W asleep.

use tandem_model::Time;

/// What a server consumes, in watts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Power {
    /// Watts of a server with VMs whose CPU does nothing.
    pub idle: f64,
    /// Watts of a server whose CPU is fully used.
    pub peak: f64,
    /// Watts of a server without VMs, which sleeps.
    pub asleep: f64,
}

impl Default for Power {
    fn default() -> Power {
        Power { idle: 270.0, peak: 450.0, asleep: 10.4 }
    }
}

impl Power {
    /// Watts of a server with so many VMs, whose CPU is used to `share`, 0 to 1.
    pub fn watts(&self, vms: usize, share: f64) -> f64 {
        if vms == 0 { self.asleep } else { self.idle + (self.peak - self.idle) * share.clamp(0.0, 1.0) }
    }
}

/// Adds up over time, from change to change.
#[derive(Debug, Clone)]
pub struct Meter {
    power: Power,
    /// Watts of each server now, and of all.
    watts: Vec<f64>,
    sum: f64,
    /// Joules until `at`.
    joules: f64,
    at: Time,
}

impl Meter {
    /// All of `servers` asleep.
    pub fn new(power: Power, servers: usize, now: Time) -> Meter {
        let asleep = power.watts(0, 0.0);
        Meter { power, watts: vec![asleep; servers], sum: asleep * servers as f64, joules: 0.0, at: now }
    }

    /// A server has so many VMs and so much of its CPU in use from now on.
    pub fn set(&mut self, server: usize, vms: usize, share: f64, now: Time) {
        self.advance(now);
        if let Some(watts) = self.watts.get_mut(server) {
            let after = self.power.watts(vms, share);
            self.sum += after - *watts;
            *watts = after;
        }
    }

    /// Counts up to `now`.
    pub fn advance(&mut self, now: Time) {
        self.joules += self.sum * now.since(self.at).as_secs_f64();
        self.at = self.at.max(now);
    }

    /// Watts of all servers now.
    pub fn watts(&self) -> f64 {
        self.sum
    }

    /// What all servers have consumed, in kWh.
    pub fn kwh(&self) -> f64 {
        self.joules / 3.6e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_sleeps_idles_and_works() {
        let mut meter = Meter::new(Power { idle: 100.0, peak: 300.0, asleep: 10.0 }, 2, Time::ZERO);
        assert!((meter.watts() - 20.0).abs() < 1e-9, "both sleep");
        meter.set(0, 1, 0.0, Time::from_secs(3600));
        assert!((meter.kwh() - 0.02).abs() < 1e-9);
        meter.set(0, 1, 0.5, Time::from_secs(7200));
        assert!((meter.kwh() - 0.13).abs() < 1e-9, "an hour of 100 W and 10 W on top");
        assert!((meter.watts() - 210.0).abs() < 1e-9);
        meter.set(0, 0, 0.0, Time::from_secs(10_800));
        assert!((meter.kwh() - 0.34).abs() < 1e-9);
        assert!((meter.watts() - 20.0).abs() < 1e-9, "asleep again");
    }
}
