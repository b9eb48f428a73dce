//! Compares the model and the codec with the replies of the bitfile's Verilog, one by one.

mod transcript;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use tandem_fpga_config::codec::{Action, Key, Mask, Pattern, PortMap, Row, Transport, listing};
use tandem_fpga_config::model::Model;
use tandem_fpga_config::profile::{FlowMap, Profile, builtin};
use tandem_model::Time;
use transcript::{Frames, Line, Outcome, lines, replay};

const FIELDS: &str = include_str!("data/netfpga-transcripts/fields.txt");
const ACTIONS: &str = include_str!("data/netfpga-transcripts/actions.txt");
const COMPILED: &str = include_str!("data/netfpga-transcripts/compiled.txt");
const EDGES: &str = include_str!("data/netfpga-transcripts/edges.txt");
const REGISTERS: &str = include_str!("data/netfpga-transcripts/registers.txt");
const LOCKUP: &str = include_str!("data/netfpga-transcripts/lockup.txt");
const BURSTS: &str = include_str!("data/netfpga-transcripts/bursts.txt");

static PROFILE: LazyLock<Profile> = LazyLock::new(|| builtin::named("openflow-switch").expect("built in"));

fn card() -> Model {
    Model::new(PROFILE.clone(), Time::from_secs(1))
}

fn map() -> FlowMap {
    PROFILE.flow_table.expect("it has one")
}

/// Every reply is equal, and their number is right.
fn same(outcome: Outcome, answers: usize) {
    assert_eq!(outcome, Outcome { differences: Vec::new(), answers });
}

#[test]
fn each_field_of_the_key_is_where_the_verilog_has_it() {
    same(replay(FIELDS, card()), 198);
}

#[test]
fn each_action_alone_and_in_pairs_does_to_each_kind_of_frame_what_the_verilog_does() {
    same(replay(ACTIONS, card()), 495);
}

#[test]
fn compiled_flows_do_what_they_do_in_the_verilog() {
    same(replay(COMPILED, card()), 360);
}

#[test]
fn what_is_easily_got_wrong_is_as_in_the_verilog() {
    same(replay(EDGES, card()), 64);
}

#[test]
fn registers_answer_as_the_verilog_s() {
    same(replay(REGISTERS, card()), 82);
}

/// Where the faults are not triggered, the model with faults behaves as without.
#[test]
fn with_its_faults_the_card_does_the_same_where_they_are_not_met() {
    for (text, answers) in [(FIELDS, 198), (ACTIONS, 495), (COMPILED, 360), (EDGES, 64), (REGISTERS, 82)] {
        same(replay(text, card().with_faults()), answers);
    }
}

/// Exactly, frame by frame: which frames leave, by which queue, from when on none does, and the
/// counters.
#[test]
fn headers_longer_than_their_frames_disturb_the_frames_behind_them_as_in_the_verilog() {
    same(replay(LOCKUP, card().with_faults()), 48);
}

/// Exactly, too: after which pairs all stops, and after which it does not.
#[test]
fn a_short_frame_close_behind_a_tagged_one_stops_everything_as_in_the_verilog() {
    same(replay(BURSTS, card().with_faults()), 24);
}

/// Without faults, these frames disturb no others: each leaves at once, by its own decision.
#[test]
fn without_its_faults_no_frame_disturbs_another() {
    for text in [LOCKUP, BURSTS] {
        let mut sections =
            lines(text).split(|(_, l)| *l == Line::Reset).map(<[_]>::to_vec).collect::<Vec<_>>();
        for lines in &mut sections {
            let mut model = card();
            let mut rows = Rows::default();
            for (at, line) in lines {
                match line {
                    Line::Write(first, values) => rows.write(*first, values, &mut model),
                    Line::Frames(frames, _) => {
                        let frames: Vec<(u8, &[u8])> = frames.iter().map(|(q, f)| (*q, &f[..])).collect();
                        let mut wanted: Frames =
                            frames.iter().flat_map(|(q, frame)| rows.expect(*q, frame)).collect();
                        wanted.sort_by_key(|(queue, _)| *queue);
                        assert!(!wanted.is_empty());
                        assert_eq!(model.burst(&frames, Time::from_secs(2)), wanted, "line {at}");
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The rows of a transcript, as the codec reads them.
#[derive(Default)]
struct Rows {
    written: BTreeMap<u32, u32>,
    rows: BTreeMap<u32, Row>,
    /// Rows written since this was last cleared.
    fresh: Vec<(u32, u32)>,
}

impl Rows {
    fn write(&mut self, first: u32, values: &[u32], card: &mut Model) {
        use tandem_fpga_config::registers::Registers;
        let map = map();
        for (address, value) in (first..).step_by(4).zip(values) {
            card.write32(address, *value).expect("a register");
            self.written.insert(address, *value);
            self.fresh.push((address, *value));
            if address == map.write_row {
                let word = |at: u32| self.written.get(&at).copied().unwrap_or(0);
                let words = |at: u32| std::array::from_fn(|n| word(at + 4 * n as u32));
                let action = Action::of_words(&std::array::from_fn(|n| word(map.action + 4 * n as u32)));
                let pattern = Pattern { key: Key(words(map.key)), mask: Mask(words(map.mask)) };
                self.rows.insert(*value, Row { pattern, action });
            }
        }
    }

    /// The codec's expectation for a frame: the lowest row that matches its key, and the effect of
    /// that row's action.
    fn expect(&self, queue: u8, frame: &[u8]) -> Frames {
        let key = Key::of_frame(frame, queue);
        let Some(row) = self.rows.values().find(|row| row.pattern.matches(&key)) else {
            return Frames::new();
        };
        let mut changed = frame.to_vec();
        row.action.apply(&mut changed);
        (0..8).filter(|q| row.action.ports >> q & 1 == 1).map(|q| (q, changed.clone())).collect()
    }
}

/// The codec without the model: its keys match where the Verilog's do, its actions change what the
/// Verilog changes, and it writes the words of a row that it has read.
#[test]
fn the_codec_s_keys_actions_and_words_are_the_verilog_s() {
    for (text, frames) in [(FIELDS, 198), (ACTIONS, 495), (COMPILED, 360)] {
        let (mut rows, mut card) = (Rows::default(), card());
        let mut seen = 0;
        for (at, line) in lines(text) {
            match line {
                Line::Reset => rows = Rows::default(),
                Line::Write(first, values) => {
                    rows.write(first, &values, &mut card);
                    if first == map().write_row {
                        let number = values[0];
                        let again: Vec<(u32, u32)> = rows.rows[&number].writes(&map(), number).collect();
                        assert_eq!(std::mem::take(&mut rows.fresh), again, "line {at}");
                    }
                }
                Line::Frames(frames, left) => {
                    let (queue, frame) = &frames[0];
                    assert_eq!(rows.expect(*queue, frame), left, "line {at}");
                    seen += 1;
                }
                _ => {}
            }
        }
        assert_eq!(seen, frames);
    }
}

/// The writes that `tandem-fpga compile --row ROW FLOW` prints.
#[test]
fn flows_are_compiled_to_the_writes_that_were_tried_on_the_verilog() {
    let (mut flows, mut wanted) = (0, Vec::<(u32, u32)>::new());
    let mut got: Option<Vec<(u32, u32)>> = None;
    let mut check = |got: Option<Vec<(u32, u32)>>, wanted: &mut Vec<(u32, u32)>| {
        if let Some(got) = got {
            assert_eq!(std::mem::take(wanted), got);
            flows += 1;
        }
    };
    for (_, line) in lines(COMPILED) {
        match line {
            Line::Flow(row, text) => {
                check(got.take(), &mut wanted);
                let ports = PortMap::one_card(true);
                let compiled =
                    listing::compile(&text, &ports, Transport::Literal, &map(), row).expect("compiled");
                let writes = compiled.lines().filter(|l| l.starts_with('w')).map(|l| {
                    let mut words = l.split(' ').skip(1).map(|w| u32::from_str_radix(w, 16).expect("hex"));
                    (words.next().expect("an address"), words.next().expect("a value"))
                });
                got = Some(writes.collect());
            }
            Line::Write(first, values) => wanted.extend((first..).step_by(4).zip(values)),
            Line::Frames(..) => check(got.take(), &mut wanted),
            _ => {}
        }
    }
    assert_eq!(flows, 210);
}
