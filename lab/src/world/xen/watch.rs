//! Pings a guest from a gateway every few milliseconds and watches every server's uplink, until
//! told to stop; then says what was lost, and by whom.

use super::pings;
use super::wait;
use crate::world::xen::control::{HostStatus, Status};
use crate::world::xen::host::Access;
use crate::world::xen::pings::{Gateway, Report, Uplink};
use anyhow::{Context, bail};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

/// What runs on the hosts; ended when dropped.
pub struct Watch {
    guest: Ipv4Addr,
    gateway: Access,
    servers: Vec<(Access, String)>,
    stopped: bool,
}

/// Starts a program in a host's background, with its process id in a file.
fn start(access: &Access, what: &str, command: &str) -> anyhow::Result<()> {
    let stop = stop_command(what);
    access
        .run(&format!("{stop}; (exec {command}) > /tmp/{what}.out 2> /tmp/{what}.err < /dev/null & echo $! > /tmp/{what}.pid"))
        .map(drop)
}

fn stop_command(what: &str) -> String {
    format!(
        "if p=$(cat /tmp/{what}.pid 2> /dev/null); then kill -INT $p 2> /dev/null; n=0; while kill -0 $p 2> /dev/null && [ $n -lt 100 ]; do \
         sleep 0.1; n=$((n + 1)); done; rm -f /tmp/{what}.pid; fi"
    )
}

impl Watch {
    /// Starts watching, and returns when pings are answered.
    ///
    /// # Errors
    /// When the guest does not answer within `limit`, or a host cannot be told.
    pub fn start(
        lab: &Status,
        guest: Ipv4Addr,
        interval: Duration,
        limit: Duration,
    ) -> anyhow::Result<Watch> {
        let named = |kind: &'static str| {
            let of = move |h: &HostStatus| -> Vec<(Access, String)> {
                h.nodes
                    .iter()
                    .filter(|n| n.starts_with(kind))
                    .map(|n| (h.access.clone(), n.clone()))
                    .collect()
            };
            lab.hosts.iter().flat_map(of)
        };
        let (gateway, gateway_name) = named("gw").next().context("the lab has no gateway")?;
        let servers: Vec<(Access, String)> = named("srv").collect();
        let mut watch = Watch { guest, gateway, servers, stopped: false };
        watch.begin(&gateway_name, interval)?;
        wait(&format!("an answer of {guest}"), limit, || {
            let seen = watch.gateway.run("grep -c icmp_seq /tmp/watch-ping.out || true")?;
            Ok(seen.parse::<u64>().is_ok_and(|n| n > 0).then_some(()))
        })?;
        Ok(watch)
    }

    fn begin(&mut self, gateway: &str, interval: Duration) -> anyhow::Result<()> {
        for (access, server) in &self.servers {
            let what = format!("watch-{server}");
            let dump = format!(
                "tcpdump -i {server}-1 -n -s 96 -B 4096 -U -w /tmp/{what}.pcap host {} and \\( icmp or arp \\)",
                self.guest
            );
            start(access, &what, &dump)?;
            wait("a capture", Duration::from_secs(120), || {
                Ok(access.run(&format!("cat /tmp/{what}.err"))?.contains("listening").then_some(()))
            })?;
        }
        let ping =
            format!("ip netns exec {gateway} ping -n -D -i {:.3} {}", interval.as_secs_f64(), self.guest);
        start(&self.gateway, "watch-ping", &ping)
    }

    /// Stops and tells. The raw files go into `folder`.
    ///
    /// # Errors
    /// When a host cannot be asked.
    pub fn stop(mut self, folder: &Path) -> anyhow::Result<Report> {
        self.stopped = true;
        std::fs::create_dir_all(folder)?;
        self.gateway.run(&stop_command("watch-ping"))?;
        let text = self.gateway.run("cat /tmp/watch-ping.out")?;
        std::fs::write(folder.join("ping.txt"), &text)?;
        let gateway = Gateway::read(&text);
        if gateway.sent == 0 {
            bail!("ping did not say how many it sent: {}", text.lines().last().unwrap_or("it says nothing"));
        }
        let mut seen = Vec::new();
        for (access, server) in &self.servers {
            // A host that is down has seen nothing more.
            let what = format!("watch-{server}");
            let command = format!(
                "{}; cat /tmp/{what}.err; tcpdump -n -tt -r /tmp/{what}.pcap 2> /dev/null; rm -f /tmp/{what}.*",
                stop_command(&what)
            );
            let text = access.run(&command).unwrap_or_default();
            std::fs::write(folder.join(format!("{server}.txt")), &text)?;
            seen.push((server, text));
        }
        let id = pings::most_pings(seen.iter().map(|(_, text)| text.as_str()));
        let guest = self.guest.to_string();
        let read = |(server, text): &(&String, String)| {
            let missed =
                text.lines().find_map(|l| l.strip_suffix(" packets dropped by kernel")?.parse().ok());
            Uplink { missed: missed.unwrap_or(0), ..Uplink::read(server, &guest, id, text) }
        };
        let uplinks: Vec<Uplink> = seen.iter().map(read).collect();
        Ok(pings::report(&gateway, &uplinks))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.stopped {
            let _ = self.gateway.run(&stop_command("watch-ping"));
            for (access, server) in &self.servers {
                let _ = access.run(&stop_command(&format!("watch-{server}")));
            }
        }
    }
}
