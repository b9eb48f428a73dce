//! What a switch's tables can do, as OFPMP_TABLE_FEATURES tells it (OF 1.3.5 section 7.3.5.5). All tables can do the same; the last one cannot
//! hand on.

use super::Switch;
use crate::of13::oxm::{BASIC, Id};
use crate::of13::table_features::{Capability, List, Property, TableFeatures};
use crate::wire::{Bytes, Pad, Text};

/// The fields that are matched, all of OFPXMC_OPENFLOW_BASIC by number: bytes of the value, and whether there may be a mask (OF 1.3.5
/// table 12).
const FIELDS: [(u8, bool); 40] = [
    (4, false),
    (4, false),
    (8, true),
    (6, true),
    (6, true),
    (2, false),
    (2, true),
    (1, false),
    (1, false),
    (1, false),
    (1, false),
    (4, true),
    (4, true),
    (2, false),
    (2, false),
    (2, false),
    (2, false),
    (2, false),
    (2, false),
    (1, false),
    (1, false),
    (2, false),
    (4, true),
    (4, true),
    (6, true),
    (6, true),
    (16, true),
    (16, true),
    (4, true),
    (1, false),
    (1, false),
    (16, false),
    (6, false),
    (6, false),
    (4, false),
    (1, false),
    (1, false),
    (3, true),
    (8, true),
    (2, true),
];
/// The fields that actions set.
const SET: [u8; 12] = [3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16];
/// OFPAT numbers of the actions: output, push and pop a VLAN tag, queue, group, set and lower the TTL, set a field.
const ACTIONS: [u16; 8] = [0, 17, 18, 21, 22, 23, 24, 25];

/// A bit per OFPAT action.
pub(crate) fn action_bits() -> u32 {
    ACTIONS.iter().fold(0, |bits, action| bits | 1 << action)
}

fn fields(numbers: impl Iterator<Item = u8>, masks: bool) -> List {
    let id = |number: u8| {
        let (bytes, maskable) = FIELDS.get(usize::from(number)).copied().unwrap_or((0, false));
        let has_mask = masks && maskable;
        let length = if has_mask { 2 * bytes } else { bytes };
        Id { class: BASIC, number, has_mask, length, experimenter: None }
    };
    List::Fields(numbers.map(id).collect())
}

fn capabilities(numbers: &[u16]) -> Vec<Capability> {
    numbers.iter().map(|kind| Capability { kind: *kind, body: Bytes(Vec::new()) }).collect()
}

impl Switch {
    /// What each table can do.
    pub(super) fn table_features(&self) -> Vec<TableFeatures> {
        let count = u8::try_from(self.pipeline.tables.len()).unwrap_or(u8::MAX);
        let one = |table_id: u8| {
            let next: Vec<u8> = (table_id + 1..count).collect();
            // OFPIT: goto where there is a next table, metadata, write, apply, clear, meter.
            let instructions: &[u16] = if next.is_empty() { &[2, 3, 4, 5, 6] } else { &[1, 2, 3, 4, 5, 6] };
            let actions = || List::Actions(capabilities(&ACTIONS));
            let all = 0..FIELDS.len() as u8;
            let properties = [
                (0, List::Instructions(capabilities(instructions))),
                (2, List::NextTables(Bytes(next))),
                (4, actions()),
                (6, actions()),
                (8, fields(all.clone(), true)),
                (10, fields(all, false)),
                (12, fields(SET.into_iter(), false)),
                (14, fields(SET.into_iter(), false)),
            ];
            let most = self.pipeline.tables.get(usize::from(table_id)).map_or(0, |t| t.most());
            TableFeatures {
                table_id,
                pad: Pad::default(),
                name: Text::new(&format!("table{table_id}")),
                metadata_match: u64::MAX,
                metadata_write: u64::MAX,
                config: 0,
                max_entries: u32::try_from(most).unwrap_or(u32::MAX),
                properties: properties.into_iter().map(|(kind, list)| Property { kind, list }).collect(),
            }
        };
        (0..count).map(one).collect()
    }
}
