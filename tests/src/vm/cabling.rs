//! Who is plugged into whom. A cable is a pair of datagram sockets: what one machine's card sends,
//! the other's receives, and nobody else.

use anyhow::bail;
use std::collections::BTreeSet;

/// A data card: `nic` 1 is eth1 of that machine. eth0 is the control network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plug {
    /// Index of the machine.
    pub machine: usize,
    /// 1 and up.
    pub nic: usize,
}

/// Cables, by their two ends.
#[derive(Debug, Clone, Default)]
pub struct Cabling(Vec<[Plug; 2]>);

/// A data card as QEMU is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// 1 and up.
    pub nic: usize,
    /// Names of the cable's sockets: this end's, the other's.
    pub sockets: [String; 2],
}

impl Cabling {
    /// Checked: no card has two cables, and no machine's card is left out before the last one that
    /// has one.
    ///
    /// # Errors
    /// With the plug that is wrong.
    pub fn new(cables: &[[(usize, usize); 2]]) -> anyhow::Result<Cabling> {
        let plug = |(machine, nic): (usize, usize)| Plug { machine, nic };
        let cables: Vec<[Plug; 2]> = cables.iter().map(|ends| ends.map(plug)).collect();
        let mut seen = BTreeSet::new();
        for plug in cables.iter().flatten() {
            if plug.nic == 0 || !seen.insert(*plug) {
                bail!(
                    "eth{} of machine {} cannot take another cable (eth0 is the control network's)",
                    plug.nic,
                    plug.machine + 1
                );
            }
        }
        for plug in &seen {
            let before = Plug { nic: plug.nic - 1, ..*plug };
            if before.nic > 0 && !seen.contains(&before) {
                bail!(
                    "machine {} has eth{} and no eth{}; number its cards without gaps",
                    plug.machine + 1,
                    plug.nic,
                    before.nic
                );
            }
        }
        Ok(Cabling(cables))
    }

    /// A machine's data cards, eth1 first.
    pub fn cards(&self, machine: usize) -> Vec<Card> {
        let socket = |cable: usize, side: usize| format!("cable{}{}.sock", cable + 1, ["a", "b"][side]);
        let ends = self.0.iter().enumerate().flat_map(|(n, ends)| [(n, 0, ends[0]), (n, 1, ends[1])]);
        let mut cards: Vec<Card> = ends
            .filter(|(.., plug)| plug.machine == machine)
            .map(|(n, side, plug)| Card { nic: plug.nic, sockets: [socket(n, side), socket(n, 1 - side)] })
            .collect();
        cards.sort_by_key(|c| c.nic);
        cards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_cable_name_each_others_sockets() {
        let cabling = Cabling::new(&[[(0, 2), (1, 1)], [(0, 1), (0, 3)]]).expect("sound");
        let sockets = |m: usize| cabling.cards(m).into_iter().map(|c| (c.nic, c.sockets)).collect::<Vec<_>>();
        let pair = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        assert_eq!(
            sockets(0),
            [
                (1, pair("cable2a.sock", "cable2b.sock")),
                (2, pair("cable1a.sock", "cable1b.sock")),
                (3, pair("cable2b.sock", "cable2a.sock")),
            ]
        );
        assert_eq!(sockets(1), [(1, pair("cable1b.sock", "cable1a.sock"))]);
    }

    #[test]
    fn a_card_with_two_cables_the_control_card_and_a_gap_are_refused() {
        for wrong in [[[(0, 1), (1, 1)], [(0, 1), (2, 1)]], [[(0, 0), (1, 1)], [(0, 1), (2, 1)]]] {
            let error = Cabling::new(&wrong).expect_err("refused").to_string();
            assert!(error.contains("cannot take another cable"), "{error}");
        }
        let error = Cabling::new(&[[(0, 2), (1, 1)]]).expect_err("refused").to_string();
        assert!(error.contains("no eth1"), "{error}");
    }
}
