//! Pings to a guest that moves, and who lost which of them: the guest by its silence, or the
//! network.
//!
//! A gateway sends them; each server's uplink is watched. So three things are known of every ping:
//! which servers it reached, whether the guest answered, and whether the answer came to the
//! gateway. A ping is the network's loss when the guest answered and nothing came, or when it did
//! not reach the server that the guest was on: the old one up to the guest's last answer there, the
//! new one from the guest's first packet there, and in the silence between them any of the two. All
//! else that is lost is the guest's own silence.
//!
//! Hosts have clocks of their own, which drift under emulation. Which ping was the first after the
//! silence is therefore told by pings that reached the new server before the guest did, wherever
//! there are such; otherwise by the clocks' offset as the pings nearest to it show it (RFC 5905
//! section 8: half the difference of the fastest ways there and back).

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// At the end, so many pings without an answer are taken to be on their way.
const UNDER_WAY: u64 = 200;

/// What the gateway's ping said (`ping -D`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gateway {
    /// Pings sent.
    pub sent: u64,
    /// First answers: number, sent at and received at, seconds of the gateway's clock.
    pub answers: BTreeMap<u64, (f64, f64)>,
    /// Second and later answers.
    pub duplicates: u64,
}

/// What was seen at a server's uplink (`tcpdump -tt`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Uplink {
    /// The server.
    pub server: String,
    /// Pings to the guest: number, and when, by the server's clock.
    pub requests: BTreeMap<u64, f64>,
    /// The guest's answers.
    pub answers: BTreeMap<u64, f64>,
    /// When any packet of the guest was seen.
    pub packets: Vec<f64>,
    /// Packets that the watcher missed.
    pub missed: u64,
}

/// What became of the pings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Sent.
    pub sent: u64,
    /// Without an answer.
    pub lost: u64,
    /// Of these by the network, not by the guest's silence.
    pub network_lost: u64,
    /// Answers that came twice.
    pub duplicates: u64,
    /// The longest time between two answers, ms.
    pub longest_gap_ms: f64,
    /// At the gateway, from the last answer of the old server to the first one of the new, ms; none
    /// where the guest did not move.
    pub silence_ms: Option<f64>,
    /// Servers that it was heard on, in order.
    pub servers: Vec<String>,
    /// What the network lost before the silence, in it, and after it.
    pub where_lost: [u64; 3],
    /// Packets that the watchers missed: what the network is said to have lost may be theirs.
    pub missed: u64,
}

/// ICMP numbers have 16 bits; this goes on counting. Numbers come nearly in order.
#[derive(Default)]
struct Unwrap(u64);

impl Unwrap {
    fn number(&mut self, seq: u16) -> u64 {
        let base = self.0 & !0xffff;
        let near = [base.wrapping_sub(0x1_0000), base, base + 0x1_0000]
            .into_iter()
            .map(|b| b.wrapping_add(u64::from(seq)))
            .filter(|n| *n < 1 << 48)
            .min_by_key(|n| n.abs_diff(self.0))
            .unwrap_or(u64::from(seq));
        self.0 = self.0.max(near);
        near
    }
}

fn after<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let rest = &text[text.find(word)? + word.len()..];
    Some(&rest[..rest.find([' ', ',']).unwrap_or(rest.len())])
}

impl Gateway {
    /// Reads what `ping -D -n` wrote, its last lines included.
    pub fn read(text: &str) -> Gateway {
        let mut gateway = Gateway::default();
        let mut unwrap = Unwrap::default();
        for line in text.lines() {
            if line.contains(" packets transmitted") {
                gateway.sent = line.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            }
            let stamp = line.strip_prefix('[').and_then(|l| l.split(']').next()).and_then(|t| t.parse().ok());
            let seq = after(line, "icmp_seq=").and_then(|s| s.parse().ok());
            let took: Option<f64> = after(line, "time=").and_then(|s| s.parse().ok());
            let (Some(received), Some(seq), Some(took)) = (stamp, seq, took) else { continue };
            let received: f64 = received;
            match gateway.answers.entry(unwrap.number(seq)) {
                std::collections::btree_map::Entry::Occupied(_) => gateway.duplicates += 1,
                std::collections::btree_map::Entry::Vacant(free) => {
                    free.insert((received - took / 1e3, received));
                }
            }
        }
        gateway
    }

    /// When a ping was sent; one without an answer was sent between its neighbours.
    fn sent_at(&self, number: u64) -> Option<f64> {
        if let Some((sent, _)) = self.answers.get(&number) {
            return Some(*sent);
        }
        let (a, (at_a, _)) = self.answers.range(..number).next_back()?;
        let (b, (at_b, _)) = self.answers.range(number..).next()?;
        Some(at_a + (at_b - at_a) * (number - a) as f64 / (b - a) as f64)
    }
}

impl Uplink {
    /// Reads what `tcpdump -n -tt` wrote of the packets from and to `guest`; of pings, those with
    /// the identifier `id` (others ping too).
    pub fn read(server: &str, guest: &str, id: Option<u16>, text: &str) -> Uplink {
        let mut uplink = Uplink { server: server.to_owned(), ..Uplink::default() };
        let mut requests = Unwrap::default();
        let mut answers = Unwrap::default();
        let to = format!(" > {guest}:");
        let from = format!(" {guest} > ");
        for line in text.lines() {
            let Some(at) = line.split(' ').next().and_then(|t| t.parse::<f64>().ok()) else { continue };
            let own = after(line, " id ").and_then(|s| s.parse().ok()) == id;
            let seq = after(line, " seq ").and_then(|s| s.parse().ok()).filter(|_| own);
            if line.contains(&to) && line.contains("echo request") {
                if let Some(seq) = seq {
                    uplink.requests.entry(requests.number(seq)).or_insert(at);
                }
            } else if line.contains(&from) {
                uplink.packets.push(at);
                if let Some(seq) = seq.filter(|_| line.contains("echo reply")) {
                    uplink.answers.entry(answers.number(seq)).or_insert(at);
                }
            } else if line.contains(&format!(" tell {guest},"))
                || line.contains(&format!("Reply {guest} is-at"))
            {
                uplink.packets.push(at);
            }
        }
        uplink
    }

    /// How far this server's clock is ahead of the gateway's about the ping `number`, in seconds.
    fn ahead(&self, gateway: &Gateway, number: u64) -> Option<f64> {
        let mut near: Vec<u64> =
            self.answers.keys().copied().filter(|n| gateway.answers.contains_key(n)).collect();
        near.sort_by_key(|n| n.abs_diff(number));
        near.truncate(100);
        let way = |f: &dyn Fn(u64) -> Option<f64>| near.iter().filter_map(|n| f(*n)).min_by(f64::total_cmp);
        let there = way(&|n| Some(self.requests.get(&n)? - gateway.answers.get(&n)?.0))?;
        let back = way(&|n| Some(gateway.answers.get(&n)?.1 - self.answers.get(&n)?))?;
        Some((there - back) / 2.0)
    }
}

/// The identifier of the pings that most of what `tcpdump` wrote is about.
pub fn most_pings<'t>(texts: impl Iterator<Item = &'t str>) -> Option<u16> {
    let mut count: BTreeMap<u16, usize> = BTreeMap::new();
    for line in texts.flat_map(str::lines).filter(|l| l.contains("echo request")) {
        if let Some(id) = after(line, " id ").and_then(|s| s.parse().ok()) {
            *count.entry(id).or_default() += 1;
        }
    }
    count.into_iter().max_by_key(|(_, n)| *n).map(|(id, _)| id)
}

/// Puts both together. A guest that moved more than once is told of its first and its last server
/// only.
pub fn report(gateway: &Gateway, uplinks: &[Uplink]) -> Report {
    let mut heard: Vec<&Uplink> = uplinks.iter().filter(|u| !u.answers.is_empty()).collect();
    heard.sort_by_key(|u| u.answers.keys().next().copied());
    // Pings that were sent just before the end were still on their way.
    let last_answer = gateway.answers.keys().next_back().copied().unwrap_or(0);
    let sent = if gateway.sent.saturating_sub(last_answer) <= UNDER_WAY { last_answer } else { gateway.sent };
    let lost: Vec<u64> = (1..=sent).filter(|n| !gateway.answers.contains_key(n)).collect();
    let answered: BTreeSet<u64> = uplinks.iter().flat_map(|u| u.answers.keys().copied()).collect();
    let mut received: Vec<f64> = gateway.answers.values().map(|a| a.1).collect();
    received.sort_by(f64::total_cmp);
    let gap = received.windows(2).map(|w| w[1] - w[0]).max_by(f64::total_cmp).unwrap_or(0.0);
    let mut report = Report {
        sent,
        lost: lost.len() as u64,
        duplicates: gateway.duplicates,
        longest_gap_ms: gap * 1e3,
        servers: heard.iter().map(|u| u.server.clone()).collect(),
        missed: uplinks.iter().map(|u| u.missed).sum(),
        ..Report::default()
    };
    let (Some(old), Some(new)) = (heard.first(), heard.last()) else { return report };
    let moved = old.server != new.server;
    let last_there = old.answers.keys().next_back().copied().unwrap_or(0);
    let first_here = if moved { first_after(gateway, last_there, sent, new) } else { sent + 1 };
    for n in &lost {
        let there = old.requests.contains_key(n);
        let here = new.requests.contains_key(n);
        let (place, delivered) = match n {
            n if *n <= last_there || !moved => (0, there),
            n if *n >= first_here => (2, here),
            _ => (1, there || here),
        };
        if answered.contains(n) || !delivered {
            report.where_lost[place] += 1;
        }
    }
    report.network_lost = report.where_lost.iter().sum();
    if moved {
        let of = |uplink: &Uplink| -> Vec<f64> {
            uplink.answers.keys().filter_map(|n| Some(gateway.answers.get(n)?.1)).collect()
        };
        let last = of(old).into_iter().max_by(f64::total_cmp);
        let first = of(new).into_iter().min_by(f64::total_cmp);
        report.silence_ms = last.zip(first).map(|(last, first)| (first - last) * 1e3);
    }
    report
}

/// The first ping that was sent when the guest was on its new server.
fn first_after(gateway: &Gateway, last_there: u64, sent: u64, new: &Uplink) -> u64 {
    let answer = new.answers.keys().next().copied().unwrap_or(sent + 1);
    let first = new.packets.iter().copied().fold(f64::INFINITY, f64::min);
    let before = new.requests.iter().filter(|(_, at)| **at < first).map(|(n, _)| *n).next_back();
    if let Some(n) = before.filter(|n| *n > last_there) {
        return (n + 1).min(answer);
    }
    let Some(ahead) = new.ahead(gateway, answer) else { return answer };
    let after = |n: &u64| gateway.sent_at(*n).is_some_and(|at| at >= first - ahead);
    (last_there + 1..=sent).find(after).unwrap_or(answer).min(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: &str = "10.0.0.2";
    const NONE: std::ops::RangeInclusive<u64> = std::ops::RangeInclusive::new(1, 0);

    /// A guest that answers `old` on server 1 and `new` on server 2, whose clock is 5 s ahead;
    /// pings every 10 ms, 1 ms each way.
    struct Story {
        sent: u64,
        /// When it announces itself on its new server, as a ping's number.
        announces: u64,
        old: std::ops::RangeInclusive<u64>,
        new: std::ops::RangeInclusive<u64>,
        reach_old: std::ops::RangeInclusive<u64>,
        reach_new: std::ops::RangeInclusive<u64>,
        answers_lost: Vec<u64>,
    }

    fn tell(s: &Story) -> Report {
        let at = |n: u64| 1000.0 + n as f64 / 100.0;
        let mut ping = String::new();
        for n in (1..=s.sent).filter(|n| s.old.contains(n) || s.new.contains(n)) {
            if !s.answers_lost.contains(&n) {
                let received = at(n) + 0.004;
                ping += &format!(
                    "[{received:.6}] 64 bytes from {GUEST}: icmp_seq={} ttl=64 time=4.00 ms\n",
                    n % 65536
                );
            }
        }
        ping += &format!(
            "\n--- {GUEST} ping statistics ---\n{} packets transmitted, 1 received, 0% packet loss\n",
            s.sent
        );
        let dump = |reach: &std::ops::RangeInclusive<u64>,
                    answers: &std::ops::RangeInclusive<u64>,
                    clock: f64| {
            let mut text = String::new();
            for n in 1..=s.sent {
                let seq = n % 65536;
                if reach.contains(&n) {
                    text += &format!(
                        "{:.6} IP 10.255.255.1 > {GUEST}: ICMP echo request, id 7, seq {seq}, length 64\n",
                        at(n) + clock + 0.001
                    );
                }
                if answers.contains(&n) {
                    text += &format!(
                        "{:.6} IP {GUEST} > 10.255.255.1: ICMP echo reply, id 7, seq {seq}, length 64\n",
                        at(n) + clock + 0.003
                    );
                }
            }
            text
        };
        let announced =
            format!("{:.6} ARP, Request who-has {GUEST} tell {GUEST}, length 28\n", at(s.announces) + 5.002);
        let uplinks = [
            Uplink::read("srv1", GUEST, Some(7), &dump(&s.reach_old, &s.old, 0.0)),
            Uplink::read("srv2", GUEST, Some(7), &(announced + &dump(&s.reach_new, &s.new, 5.0))),
        ];
        report(&Gateway::read(&ping), &uplinks)
    }

    fn moved() -> Story {
        Story {
            sent: 1000,
            announces: 700,
            old: 1..=400,
            new: 701..=1000,
            reach_old: 1..=1000,
            reach_new: 300..=1000,
            answers_lost: vec![],
        }
    }

    #[test]
    fn a_guests_own_silence_is_not_the_networks() {
        let report = tell(&moved());
        assert_eq!((report.lost, report.network_lost, report.duplicates), (300, 0, 0));
        assert!((report.longest_gap_ms - 3010.0).abs() < 0.1, "{report:?}");
        assert!((report.silence_ms.expect("it moved") - 3010.0).abs() < 0.1, "{report:?}");
        assert_eq!(report.servers, ["srv1", "srv2"]);
    }

    #[test]
    fn answers_lost_before_and_after_and_pings_that_reach_nobody_are_the_networks() {
        let report = tell(&Story { answers_lost: vec![399, 705, 706], ..moved() });
        assert_eq!((report.lost, report.where_lost), (303, [1, 0, 2]));
        let report = tell(&Story { reach_old: 1..=450, reach_new: 460..=1000, ..moved() });
        assert_eq!((report.network_lost, report.where_lost), (9, [0, 9, 0]));
    }

    #[test]
    fn rules_that_come_late_cost_what_was_sent_since_the_guest_was_there() {
        // It announces itself at 700; pings go to the old server until 799.
        let report = tell(&Story { reach_new: 800..=1000, new: 800..=1000, ..moved() });
        assert_eq!(report.lost, 399);
        assert_eq!(report.where_lost[0], 0);
        // By two clocks, each way 1 ms: right within a ping.
        assert!((99..=101).contains(&report.where_lost[2]), "{report:?}");
    }

    #[test]
    fn a_guest_that_stays_may_be_silent_and_numbers_go_on_after_65535() {
        let story = Story {
            sent: 70_000,
            announces: 0,
            old: 1..=70_000,
            new: NONE,
            reach_old: 1..=70_000,
            reach_new: NONE,
            answers_lost: vec![66_000],
        };
        let report = tell(&story);
        assert_eq!((report.sent, report.lost, report.network_lost, report.silence_ms), (70_000, 1, 1, None));
    }

    #[test]
    fn pings_on_their_way_at_the_end_are_not_lost_and_a_guest_that_never_answers_again_is() {
        let report = tell(&Story { new: 701..=990, ..moved() });
        assert_eq!((report.sent, report.lost), (990, 300));
        let report = tell(&Story { old: 1..=400, new: NONE, ..moved() });
        assert_eq!((report.sent, report.lost, report.network_lost), (1000, 600, 0));
    }

    #[test]
    fn somebody_elses_pings_are_not_counted() {
        let line = |id: u16, seq: u16| {
            format!("1.000000 IP 10.255.255.1 > {GUEST}: ICMP echo request, id {id}, seq {seq}, length 64\n")
        };
        let text = line(9, 1) + &line(7, 300) + &line(7, 301);
        assert_eq!(most_pings([text.as_str()].into_iter()), Some(7));
        let uplink = Uplink::read("srv1", GUEST, Some(7), &text);
        assert_eq!(uplink.requests.keys().copied().collect::<Vec<_>>(), [300, 301]);
    }
}
