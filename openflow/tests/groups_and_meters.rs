//! Groups and meters by the specification (OF 1.3.5 sections 5.6, 5.7, 6.5, 7.3.4.2 and 7.3.4.4).

use std::collections::BTreeMap;
use std::time::Duration;
use tandem_model::Time;
use tandem_openflow::of13::meter::{Band, BandKind, MeterMod};
use tandem_openflow::of13::multipart::{ReplyBody, RequestBody};
use tandem_openflow::of13::stats::{GroupStatsRequest, MeterRequest};
use tandem_openflow::of13::{self, Action, Bucket, GroupMod, Instruction, group, port};
use tandem_openflow::table::ports::Standing;
use tandem_openflow::table::{NO_QUEUE, Pipeline, Refusal, RemovedReason};
use tandem_openflow::wire::Pad;

const T0: Time = Time::ZERO;
const ALL: u8 = 0;
const SELECT: u8 = 1;
const INDIRECT: u8 = 2;
const FAILOVER: u8 = 3;

fn bucket(weight: u16, watch_port: u32, actions: Vec<Action>) -> Bucket {
    Bucket { weight, watch_port, watch_group: group::ANY, pad: Pad::default(), actions }
}

fn out(port: u32) -> Bucket {
    bucket(0, port::ANY, vec![Action::output(port)])
}

fn to_group(id: u32) -> Bucket {
    bucket(0, port::ANY, vec![Action::Group(id)])
}

fn group_mod(command: u16, kind: u8, group_id: u32, buckets: Vec<Bucket>) -> GroupMod {
    GroupMod { command, kind, pad: Pad::default(), group_id, buckets }
}

fn add(p: &mut Pipeline, kind: u8, id: u32, buckets: Vec<Bucket>) {
    assert_eq!(p.group_mod(&group_mod(0, kind, id, buckets), 10, T0), Ok(Vec::new()));
}

fn flow(instructions: Vec<Instruction>) -> of13::FlowMod {
    of13::FlowMod {
        cookie: 0,
        cookie_mask: 0,
        table_id: 0,
        command: of13::flow::command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority: 1,
        buffer_id: of13::flow::NO_BUFFER,
        out_port: port::ANY,
        out_group: group::ANY,
        flags: of13::flow::flag::SEND_FLOW_REM,
        pad: Pad::default(),
        matching: of13::Match::any(),
        instructions,
    }
}

/// Gives a pipeline this flow alone, with a cache as switches have it.
fn with_flow(p: &mut Pipeline, actions: Vec<Action>) {
    p.flow_mod13(&flow(vec![Instruction::ApplyActions(Pad::default(), actions)]), T0).expect("good");
}

/// A UDP packet over IPv4 with DSCP AF11, from one of many ports.
fn frame(from: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 10 << 2, 0, 86, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(from.to_be_bytes());
    frame.extend([0x07, 0xd0, 0, 66, 0, 0]);
    frame.resize(100, 0);
    frame
}

fn ports(p: &mut Pipeline, frame: &[u8]) -> Vec<u32> {
    p.process(frame, 1, T0).expect("a flow").into_iter().map(|s| s.port).collect()
}

fn code(done: Result<Vec<tandem_openflow::table::Removed>, Refusal>) -> (u16, u16) {
    let of_error = done.expect_err("refused").of_error;
    (of_error.kind, of_error.code)
}

#[test]
fn all_copies_and_the_packet_itself_stays_as_it_was() {
    let mut p = Pipeline::new(1, 10, vec![1, 2, 3, 4]).with_cache(16);
    let tagged = vec![
        // Executed in the order of an action set: the tag, then the output.
        Action::output(3),
        Action::PushVlan(0x8100, Pad::default()),
        Action::SetQueue(5),
    ];
    add(&mut p, ALL, 1, vec![out(2), bucket(0, port::ANY, tagged), out(1)]);
    with_flow(&mut p, vec![Action::Group(1), Action::output(4)]);
    for _ in 0..3 {
        let sent = p.process(&frame(1), 1, T0).expect("a flow");
        let of = |s: &tandem_openflow::table::Sent| (s.port, s.queue, s.frame.len());
        // A bucket does not send to the input port either (section 5.6.1).
        assert_eq!(
            sent.iter().map(of).collect::<Vec<_>>(),
            [(2, NO_QUEUE, 100), (3, 5, 104), (4, NO_QUEUE, 100)]
        );
        assert_eq!(sent[2].frame, frame(1));
    }
    let question = RequestBody::Group(GroupStatsRequest { group_id: 1, pad: Pad::default() });
    let told = p.stats13(&question, Time::from_secs(3)).expect("good").expect("groups").remove(0).body;
    let ReplyBody::Group(list) = told else { panic!("no groups") };
    assert_eq!((list[0].packet_count, list[0].byte_count, list[0].ref_count), (3, 300, 1));
    assert_eq!(list[0].buckets.iter().map(|b| b.packet_count).collect::<Vec<_>>(), [3, 3, 3]);
    assert_eq!(list[0].duration_sec, 3);
}

#[test]
fn select_spreads_flows_by_weight_keeps_each_to_its_bucket_and_leaves_dead_ones_out() {
    let mut p = Pipeline::new(1, 10, vec![1, 2, 3, 4]).with_cache(4096);
    let buckets = [(1, 2), (3, 3), (0, 4)].map(|(w, to)| bucket(w, to, vec![Action::output(to)]));
    add(&mut p, SELECT, 1, buckets.to_vec());
    with_flow(&mut p, vec![Action::Group(1)]);
    let spread = |p: &mut Pipeline| {
        let mut counts = BTreeMap::new();
        for from in 0..2000 {
            let to = ports(p, &frame(from));
            assert_eq!(to, ports(p, &frame(from)), "a flow keeps to its bucket");
            *counts.entry(to[0]).or_insert(0) += 1;
        }
        counts
    };
    let counts = spread(&mut p);
    assert!((400..600).contains(&counts[&2]) && counts[&2] + counts[&3] == 2000, "1 to 3: {counts:?}");
    p.ports.set(Standing { number: 3, flood: true, live: false });
    assert_eq!(spread(&mut p), BTreeMap::from([(2, 2000)]));
    p.ports.remove(2);
    assert_eq!(ports(&mut p, &frame(1)), [0; 0], "weight 0 is never taken");
}

/// Packets without IP are spread by flow too: by their addresses, by their label.
#[test]
fn select_spreads_arp_and_mpls() {
    let mut p = Pipeline::new(1, 10, vec![1, 2, 3]).with_cache(16);
    let buckets = [2, 3].map(|to| bucket(1, port::ANY, vec![Action::output(to)]));
    add(&mut p, SELECT, 1, buckets.to_vec());
    with_flow(&mut p, vec![Action::Group(1)]);
    let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let arp = |n: u8| {
        let addresses = [&[2, 0, 0, 0, 0, 1, 10, 0, 0, n][..], &[0; 6], &[10, 0, 0, 200]].concat();
        [&ethernet[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &addresses].concat()
    };
    let mpls = |n: u8| [&ethernet[..], &[0x88, 0x47, 0, n, 1, 64], &[0; 40]].concat();
    for frames in [(0..100).map(arp).collect::<Vec<_>>(), (0..100).map(mpls).collect()] {
        let to_two = frames.iter().filter(|f| ports(&mut p, f) == [2]).count();
        assert!((30..70).contains(&to_two), "{to_two} of 100");
    }
}

#[test]
fn fast_failover_takes_the_first_bucket_that_is_alive() {
    let mut p = Pipeline::new(1, 10, vec![1, 2, 3, 4]).with_cache(16);
    let watching = |to| bucket(0, to, vec![Action::output(to)]);
    add(&mut p, FAILOVER, 2, vec![watching(3), watching(4)]);
    let by_group = Bucket { watch_group: 2, ..bucket(0, port::ANY, vec![Action::Group(2)]) };
    add(&mut p, FAILOVER, 1, vec![watching(2), by_group]);
    with_flow(&mut p, vec![Action::Group(1)]);
    let down = |p: &mut Pipeline, number| p.ports.set(Standing { number, flood: true, live: false });
    assert_eq!(ports(&mut p, &frame(1)), [2]);
    down(&mut p, 2);
    assert_eq!(ports(&mut p, &frame(1)), [3]);
    down(&mut p, 3);
    assert_eq!(ports(&mut p, &frame(1)), [4]);
    down(&mut p, 4);
    assert_eq!(ports(&mut p, &frame(1)), [0; 0]);
    p.ports.set(Standing { number: 2, flood: true, live: true });
    assert_eq!(ports(&mut p, &frame(1)), [2]);
}

/// A group that watches nothing itself is alive as long as it exists; a deleted one is dead
/// (section 6.5).
#[test]
fn a_group_that_watches_nothing_is_alive() {
    let mut p = Pipeline::new(1, 10, vec![1, 2, 3]).with_cache(16);
    add(&mut p, INDIRECT, 2, vec![out(2)]);
    let by_group = Bucket { watch_group: 2, ..bucket(0, port::ANY, vec![Action::output(2)]) };
    add(&mut p, FAILOVER, 1, vec![by_group, bucket(0, 3, vec![Action::output(3)])]);
    with_flow(&mut p, vec![Action::Group(1)]);
    assert_eq!(ports(&mut p, &frame(1)), [2]);
    assert_eq!(p.group_mod(&group_mod(2, ALL, 2, vec![]), 10, T0), Ok(Vec::new()));
    assert_eq!(ports(&mut p, &frame(1)), [3]);
}

#[test]
fn what_cannot_be_a_group_is_refused_and_what_is_deleted_takes_its_flows_along() {
    let mut p = Pipeline::new(1, 10, vec![1, 2]);
    add(&mut p, INDIRECT, 1, vec![out(2)]);
    add(&mut p, ALL, 2, vec![to_group(1)]);
    let experimenter = Action::Experimenter { experimenter: 1, body: tandem_openflow::wire::Bytes(vec![]) };
    let experimenter = bucket(0, port::ANY, vec![experimenter]);
    let to_nowhere = |watch_port| bucket(0, watch_port, vec![]);
    let cases = [
        (group_mod(0, ALL, 1, vec![]), (6, 0)),
        (group_mod(0, ALL, group::ALL, vec![]), (6, 1)),
        (group_mod(1, ALL, 1, vec![to_group(2)]), (6, 7)),
        (group_mod(0, ALL, 3, vec![to_group(3)]), (6, 7)),
        (group_mod(1, ALL, 9, vec![]), (6, 8)),
        (group_mod(2, ALL, 1, vec![]), (6, 9)),
        (group_mod(0, 7, 3, vec![]), (6, 10)),
        (group_mod(9, ALL, 3, vec![]), (6, 11)),
        (group_mod(0, INDIRECT, 3, vec![]), (6, 1)),
        (group_mod(0, INDIRECT, 3, vec![out(1), out(2)]), (6, 1)),
        // A weight has a meaning in select groups only (sections 6.5 and 7.3.4.2).
        (group_mod(0, ALL, 3, vec![bucket(1, port::ANY, vec![])]), (6, 1)),
        (group_mod(0, INDIRECT, 3, vec![bucket(1, port::ANY, vec![])]), (6, 1)),
        (group_mod(0, FAILOVER, 3, vec![bucket(1, 1, vec![])]), (6, 1)),
        (group_mod(0, ALL, 3, vec![to_nowhere(1)]), (6, 6)),
        (group_mod(0, INDIRECT, 3, vec![to_nowhere(1)]), (6, 6)),
        (group_mod(0, FAILOVER, 3, vec![to_nowhere(0)]), (6, 13)),
        (group_mod(0, SELECT, 3, vec![bucket(1, port::CONTROLLER, vec![])]), (6, 13)),
        (group_mod(0, SELECT, 3, vec![out(1), out(2)]), (6, 1)),
        (group_mod(0, FAILOVER, 3, vec![Bucket { watch_group: 9, ..to_nowhere(port::ANY) }]), (6, 13)),
        (group_mod(0, FAILOVER, 3, vec![out(1)]), (6, 13)),
        (group_mod(0, ALL, 3, vec![out(1); 300]), (6, 4)),
        (group_mod(0, ALL, 3, vec![to_group(8)]), (2, 9)),
        (group_mod(0, ALL, 3, vec![experimenter]), (2, 2)),
        (group_mod(0, ALL, 3, vec![out(port::TABLE)]), (2, 4)),
    ];
    for (m, wanted) in cases {
        assert_eq!(code(p.group_mod(&m, 10, T0)), wanted, "{m:?}");
    }
    assert_eq!(code(p.group_mod(&group_mod(0, ALL, 3, vec![]), 2, T0)), (6, 3));
    let unknown = vec![Instruction::WriteActions(Pad::default(), vec![Action::Group(3)])];
    assert_eq!(code(p.flow_mod13(&flow(unknown), T0)), (2, 9));

    with_flow(&mut p, vec![Action::Group(2)]);
    assert_eq!(ports(&mut p, &frame(1)), [2]);
    let only = of13::FlowMod { command: of13::flow::command::DELETE, out_group: 1, ..flow(Vec::new()) };
    assert_eq!(p.flow_mod13(&only, T0), Ok(Vec::new()), "no flow sends to group 1 itself");
    let gone = p.group_mod(&group_mod(2, ALL, 2, vec![]), 10, T0).expect("good");
    assert_eq!(gone.iter().map(|r| r.reason).collect::<Vec<_>>(), [RemovedReason::Group]);
    assert!(p.tables[0].is_empty());
    assert_eq!(p.group_mod(&group_mod(2, ALL, 77, vec![]), 10, T0), Ok(Vec::new()), "not there, no fault");
    assert_eq!(p.group_mod(&group_mod(2, ALL, group::ALL, vec![]), 10, T0), Ok(Vec::new()));
    assert!(p.groups().is_empty());
}

/// A chain of groups with two buckets each, which would make 2^20 packets of one.
#[test]
fn a_packet_is_not_multiplied_without_end() {
    let mut p = Pipeline::new(1, 10, vec![1, 2]).with_cache(16);
    add(&mut p, ALL, 1, vec![out(2), out(2)]);
    for id in 2..=20 {
        let done = p.group_mod(&group_mod(0, ALL, id, vec![to_group(id - 1); 2]), 100, T0);
        assert_eq!(done, Ok(Vec::new()));
    }
    with_flow(&mut p, vec![Action::Group(20)]);
    let sent = ports(&mut p, &frame(1)).len();
    assert!((1..5000).contains(&sent), "{sent}");
    assert_eq!(ports(&mut p, &frame(1)).len(), sent, "each time the same");
}

/// Dead groups that watch each other, with many ways from the first to the last: each is checked
/// once.
#[test]
fn many_dead_groups_are_not_watched_without_end() {
    let mut p = Pipeline::new(1, 10, vec![1, 2]);
    p.ports.set(Standing { number: 2, flood: true, live: false });
    add(&mut p, FAILOVER, 1, vec![bucket(0, 2, vec![Action::output(2)])]);
    for id in 2..=30 {
        let watching = Bucket { watch_group: id - 1, ..bucket(0, port::ANY, vec![Action::Group(id - 1)]) };
        let done = p.group_mod(&group_mod(0, FAILOVER, id, vec![watching; 100]), 100, T0);
        assert_eq!(done, Ok(Vec::new()));
    }
    with_flow(&mut p, vec![Action::Group(30)]);
    assert_eq!(ports(&mut p, &frame(1)), [0; 0]);
    p.ports.set(Standing { number: 2, flood: true, live: true });
    assert_eq!(ports(&mut p, &frame(1)), [2]);
}

fn meter_mod(command: u16, flags: u16, meter_id: u32, bands: Vec<Band>) -> MeterMod {
    MeterMod { command, flags, meter_id, bands }
}

fn drop(rate: u32, burst_size: u32) -> Band {
    Band { rate, burst_size, kind: BandKind::Drop(Pad::default()) }
}

fn metered(p: &mut Pipeline) {
    let send = Instruction::ApplyActions(Pad::default(), vec![Action::output(2)]);
    p.flow_mod13(&flow(vec![Instruction::Meter(1), send]), T0).expect("good");
}

/// How many of `count` packets pass, sent one every `gap`.
fn passed(p: &mut Pipeline, from: Time, count: u32, gap: Duration) -> u32 {
    (0..count).map(|n| p.process(&frame(1), 1, from + gap * n).expect("a flow").len() as u32).sum()
}

#[test]
fn a_meter_lets_its_rate_and_its_burst_through() {
    let gap = Duration::from_millis(1);
    for (flags, band, least, most) in [
        // Packets: 100/s with a burst of 10, 1000/s offered for 10 s.
        (0b0110, drop(100, 10), 1009, 1011),
        // 80 kbit/s are 100 packets/s of 100 bytes; the burst of 8 kbit is 10 packets.
        (0b0101, drop(80, 8), 1009, 1011),
        // Without OFPMF_BURST the burst is the rate of a second.
        (0b0010, drop(100, 0), 1099, 1101),
    ] {
        let mut p = Pipeline::new(1, 10, vec![1, 2]).with_cache(16);
        assert_eq!(p.meter_mod(&meter_mod(0, flags, 1, vec![band]), 10, T0), Ok(Vec::new()));
        metered(&mut p);
        let through = passed(&mut p, T0, 10_000, gap);
        assert!((least..=most).contains(&through), "{flags:#b}: {through}");
        let all = RequestBody::Meter(MeterRequest { meter_id: of13::meter::ALL, pad: Pad::default() });
        let ReplyBody::Meter(told) = p.stats13(&all, T0).expect("good").expect("meters").remove(0).body
        else {
            panic!("no meters")
        };
        assert_eq!((told[0].packet_in_count, told[0].flow_count), (10_000, 1));
        assert_eq!(told[0].bands[0].packet_count, u64::from(10_000 - through));
    }
}

/// Section 5.7.1: of the bands whose rate is exceeded, the highest acts.
#[test]
fn a_remark_comes_before_a_drop_and_the_checksum_stays_right() {
    let mut p = Pipeline::new(1, 10, vec![1, 2]).with_cache(16);
    let remark = Band { rate: 1, burst_size: 1, kind: BandKind::DscpRemark(1, Pad::default()) };
    let m = meter_mod(0, 0b0110, 1, vec![drop(2, 2), remark]);
    assert_eq!(p.meter_mod(&m, 10, T0), Ok(Vec::new()));
    metered(&mut p);
    let dscp = |p: &mut Pipeline| {
        let sent = p.process(&frame(1), 1, T0).expect("a flow");
        let header = sent.first().map(|s| s.frame[14..34].to_vec());
        header.map(|h| {
            let words = h.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
            (h[1] >> 2, words.sum::<u32>() % 0xffff)
        })
    };
    let sum = dscp(&mut p).map(|(_, sum)| sum);
    assert_eq!(dscp(&mut p).map(|(d, s)| (d, Some(s))), Some((12, sum)), "AF12, the sum kept");
    assert_eq!(dscp(&mut p), None, "above the drop band's rate");
}

#[test]
fn what_cannot_be_a_meter_is_refused_and_what_is_deleted_takes_its_flows_along() {
    let mut p = Pipeline::new(1, 10, vec![1, 2]);
    assert_eq!(p.meter_mod(&meter_mod(0, 1, 1, vec![drop(1, 0)]), 10, T0), Ok(Vec::new()));
    let experimenter =
        BandKind::Experimenter { experimenter: 1, body: tandem_openflow::wire::Bytes(Vec::new()) };
    let remark = |level| Band { kind: BandKind::DscpRemark(level, Pad::default()), ..drop(1, 0) };
    let cases = [
        (meter_mod(0, 1, 1, vec![]), (12, 1)),
        (meter_mod(0, 1, 0, vec![]), (12, 2)),
        (meter_mod(0, 1, 0xffff_fffe, vec![]), (12, 2)),
        (meter_mod(1, 1, 2, vec![]), (12, 3)),
        (meter_mod(9, 1, 2, vec![]), (12, 4)),
        (meter_mod(0, 0b11, 2, vec![]), (12, 5)),
        (meter_mod(0, 1 << 9, 2, vec![]), (12, 5)),
        (meter_mod(0, 1, 2, vec![drop(0, 0)]), (12, 6)),
        (meter_mod(0, 1, 2, vec![Band { kind: experimenter, ..drop(1, 0) }]), (12, 8)),
        (meter_mod(0, 1, 2, vec![remark(0)]), (12, 9)),
        (meter_mod(0, 1, 2, vec![drop(1, 0); 17]), (12, 11)),
    ];
    for (m, wanted) in cases {
        assert_eq!(code(p.meter_mod(&m, 10, T0)), wanted, "{m:?}");
    }
    assert_eq!(code(p.meter_mod(&meter_mod(0, 1, 2, vec![]), 1, T0)), (12, 10));
    metered(&mut p);
    let gone = p.meter_mod(&meter_mod(2, 0, 1, vec![]), 10, T0).expect("good");
    assert_eq!(gone.iter().map(|r| r.reason).collect::<Vec<_>>(), [RemovedReason::Deleted]);
    assert!(p.meters().is_empty() && p.tables[0].is_empty());
}
