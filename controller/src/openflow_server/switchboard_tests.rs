//! The switchboard's rules, a test for each, and a property over random arrivals and departures.

use super::switchboard::{ConnectionId, Identity, Order, Peer, QUIET, Switchboard};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tandem_model::{Dpid, Mac, PortNo, Time};

const DPID: Dpid = Dpid(7);

/// The switch at 10.0.0.`host`, whose ports have addresses that begin with `host`.
fn switch(host: u8) -> Identity {
    Identity {
        peer: Peer::Address([10, 0, 0, host].into()),
        name: format!("tcp:10.0.0.{host}"),
        description: format!("maker {host}"),
        ports: (1..=3)
            .map(|n| (PortNo(n), (format!("s{host}p{n}"), Mac([2, host, 0, 0, 0, n as u8]))))
            .collect(),
    }
}

fn board() -> Switchboard {
    Switchboard::new([DPID])
}

fn at(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

fn closed(orders: &[Order]) -> Vec<ConnectionId> {
    orders.iter().filter_map(|o| if let Order::Close(id, _) = o { Some(*id) } else { None }).collect()
}

#[test]
fn the_second_connection_of_a_switch_stands_by_and_takes_over() {
    let same_process = |user| Identity { peer: Peer::Process { user, process: 42 }, ..switch(1) };
    let elsewhere = Identity { peer: Peer::Address([10, 9, 9, 9].into()), ..switch(1) };
    let mut port_more = switch(1);
    port_more.ports.insert(PortNo(9), ("p9".into(), Mac([9; 6])));
    // A restarted Open vSwitch gives its patch ports other addresses.
    port_more.ports.values_mut().for_each(|(_, mac)| mac.0[5] ^= 0x80);
    let other_words = Identity { description: "renamed".into(), ports: BTreeMap::new(), ..same_process(0) };
    for (first, second) in [
        (switch(1), switch(1)),
        (switch(1), elsewhere),
        (switch(1), port_more),
        (same_process(0), other_words),
    ] {
        let mut board = board();
        assert_eq!(board.arrive(1, DPID, first, at(0)), [Order::Activate(1)]);
        let orders = board.arrive(2, DPID, second.clone(), at(1));
        assert_eq!(orders, [Order::StandBy(2), Order::Probe(1)], "{second:?}");
        // There is no Down in between: for the core the switch stays.
        assert_eq!(board.leave(1, "unplugged", at(2)), [Order::Activate(2)]);
        assert_eq!(board.leave(2, "unplugged", at(3)), [Order::Down(DPID, 2, "unplugged".into())]);
    }
}

#[test]
fn a_stale_connection_that_leaves_takes_nothing_with_it() {
    let mut board = board();
    board.arrive(1, DPID, switch(1), at(0));
    board.arrive(2, DPID, switch(1), at(1));
    assert_eq!(board.leave(2, "gone", at(2)), [], "it only stood by");
    let orders = board.arrive(3, DPID, switch(2), at(3));
    assert_eq!((closed(&orders), orders.last()), (vec![1], Some(&Order::Activate(3))));
    assert_eq!(board.leave(1, "told to", at(4)), [], "another one is active");
    assert_eq!(board.leave(1, "twice", at(4)), []);
}

#[test]
fn of_another_peer_the_newer_wins_and_the_older_is_told_who() {
    let mut board = board();
    board.arrive(1, DPID, switch(1), at(0));
    board.arrive(2, DPID, switch(1), at(0));
    let orders = board.arrive(3, DPID, switch(2), at(10));
    let [Order::Close(1, why), Order::Close(2, _), Order::Report(DPID, told), Order::Activate(3)] =
        &orders[..]
    else {
        panic!("{orders:?}")
    };
    assert!(why.contains("tcp:10.0.0.2") && told.contains("tcp:10.0.0.1"), "{why}; {told}");
    // From one address with nothing in common: two bridges of one host with the same id by mistake.
    let mut twin = switch(2);
    twin.ports = switch(3).ports;
    assert_eq!(closed(&board.arrive(4, DPID, twin, at(200))), [3]);
}

#[test]
fn to_and_fro_neither_is_used_until_one_has_given_up() {
    let mut board = board();
    board.arrive(1, DPID, switch(1), at(0));
    board.arrive(2, DPID, switch(2), at(5));
    board.leave(1, "told to", at(5));
    board.arrive(3, DPID, switch(1), at(10));
    board.leave(2, "told to", at(10));
    let orders = board.arrive(4, DPID, switch(2), at(15));
    assert_eq!(closed(&orders), [3, 4]);
    let told = orders.iter().find_map(|o| if let Order::Report(_, t) = o { Some(t.as_str()) } else { None });
    let told = told.expect("a notice");
    assert!(told.contains("tcp:10.0.0.1") && told.contains("tcp:10.0.0.2"), "{told}");
    assert!(orders.contains(&Order::Down(DPID, 3, told.to_owned())), "{orders:?}");
    assert_eq!((board.leave(3, "told to", at(15)), board.leave(4, "told to", at(15))), (vec![], vec![]));
    // Both keep trying: both are refused, without another notice.
    for n in 0..20 {
        let orders = board.arrive(10 + n, DPID, switch(1 + (n % 2) as u8), at(20 + 8 * n));
        assert_eq!((closed(&orders), orders.len()), (vec![10 + n], 1));
        assert_eq!(board.leave(10 + n, "told to", at(20 + 8 * n)), []);
    }
    // The second has last tried at 172 s; the first goes on alone.
    assert_eq!(closed(&board.arrive(40, DPID, switch(1), at(180))), [40]);
    let later = at(172) + QUIET;
    let orders = board.arrive(41, DPID, switch(1), later);
    assert!(matches!(&orders[..], [Order::Report(..), Order::Activate(41)]), "{orders:?}");
    // Even if each leaves in order before the other comes, that is repeated replacement.
    let mut board = self::board();
    let mut refused = Vec::new();
    for n in 0..6 {
        refused.extend(closed(&board.arrive(n, DPID, switch(1 + (n % 2) as u8), at(n))));
        board.leave(n, "it closed the connection", at(n));
    }
    assert_eq!(refused, [4, 5]);
    // A peer that is a different one each time, such as a process that is restarted, is not: none
    // comes back.
    let mut board = self::board();
    for n in 0..6 {
        assert_eq!(board.arrive(n.into(), DPID, switch(n), at(n.into())), [Order::Activate(n.into())]);
        board.leave(n.into(), "it closed the connection", at(n.into()));
    }
}

#[test]
fn a_switch_that_only_dials_is_held_off_and_invented_ids_are_few() {
    let mut board = board();
    let mut refused = 0;
    for id in 0..1000 {
        refused += closed(&board.arrive(id, DPID, switch(1), at(1))).len();
        board.leave(id, "it closed the connection", at(1));
    }
    assert_eq!(refused, 940);
    assert_eq!(board.arrive(1000, DPID, switch(1), at(61)), [Order::Activate(1000)]);

    let refused = (2000..2100u64).filter(|id| {
        board.arrive(*id, Dpid(*id), switch(1), at(70)).iter().any(|o| matches!(o, Order::Close(..)))
    });
    assert_eq!(refused.count(), 36);
    assert_eq!(board.leave(2000, "gone", at(71)).len(), 1);
    assert_eq!(board.arrive(3000, Dpid(3000), switch(1), at(72)), [Order::Activate(3000)]);
}

proptest! {
    /// Whatever the arrivals and departures: at most one connection is active, it exists, and a
    /// switch is down exactly when none is active.
    #[test]
    fn there_is_one_active_connection_or_none(
        steps in proptest::collection::vec((any::<bool>(), 1u8..4, 0u64..20), 1..200),
    ) {
        let mut board = board();
        let (mut open, mut active, mut seconds) = (Vec::<ConnectionId>::new(), None, 0);
        for (n, (comes, who, pause)) in (1u64..).zip(steps) {
            seconds += pause;
            let orders = if comes || open.is_empty() {
                open.push(n);
                board.arrive(n, DPID, switch(who), at(seconds))
            } else {
                let gone = open.remove(n as usize % open.len());
                board.leave(gone, "gone", at(seconds))
            };
            for order in orders {
                match order {
                    Order::Activate(id) => {
                        prop_assert!(open.contains(&id));
                        active = Some(id);
                    }
                    Order::StandBy(id) => prop_assert!(active.is_some() && active != Some(id)),
                    Order::Probe(id) => prop_assert_eq!(active, Some(id)),
                    Order::Close(id, _) => {
                        open.retain(|o| *o != id);
                        // As the connection's task does afterwards. If it was active, it has a
                        // successor already, or the switch is down.
                        let after = board.leave(id, "told to", at(seconds));
                        prop_assert_eq!(after, vec![]);
                    }
                    Order::Down(_, id, _) => {
                        prop_assert_eq!(active, Some(id));
                        active = None;
                    }
                    Order::Report(..) => {}
                }
            }
            prop_assert!(active.is_none_or(|a| open.contains(&a)), "{:?} of {:?}", active, open);
        }
    }
}
