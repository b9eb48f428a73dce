//! Capabilities of a switch's tables, as OFPMP_TABLE_FEATURES reports and sets them (OF 1.3.5
//! section 7.3.5.5). All tables have the same, except that the last one has no next table. The
//! pipeline is fixed: a controller can set only a table's name and its maximum of flows.

use super::Switch;
use super::v13::TABLE_CONFIG;
use crate::error::OfErrorCode;
use crate::of13::oxm::{BASIC, Id};
use crate::of13::table_features::{Capability, List, Property, TableFeatures};
use crate::wire::{Bytes, Pad, Text};

/// The fields that flows match, all of OFPXMC_OPENFLOW_BASIC by number: bytes of the value, and
/// whether it may have a mask (OF 1.3.5 table 12).
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
/// The fields that actions set: all from ETH_DST to TUNNEL_ID.
const SET: std::ops::RangeInclusive<u8> = 3..=38;
/// OFPAT numbers of the actions: all but an experimenter's.
const ACTIONS: [u16; 16] = [0, 11, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27];
/// OFPET_TABLE_FEATURES_FAILED.
const FAILED: u16 = 13;
/// OFPTFFC_BAD_TABLE.
const BAD_TABLE: OfErrorCode = OfErrorCode { kind: FAILED, code: 0 };
/// OFPTFFC_BAD_METADATA.
const BAD_METADATA: OfErrorCode = OfErrorCode { kind: FAILED, code: 1 };
/// OFPTFFC_BAD_ARGUMENT.
const BAD_ARGUMENT: OfErrorCode = OfErrorCode { kind: FAILED, code: 4 };
/// OFPTFFC_EPERM.
const NOT_ALLOWED: OfErrorCode = OfErrorCode { kind: FAILED, code: 5 };

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
    /// The capabilities of each table.
    pub(super) fn table_features(&self) -> Vec<TableFeatures> {
        let count = u8::try_from(self.pipeline.tables.len()).unwrap_or(u8::MAX);
        let one = |table_id: u8| {
            let next: Vec<u8> = (table_id + 1..count).collect();
            // OFPIT: goto if there is a next table, metadata, write, apply, clear, meter.
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
                (12, fields(SET, false)),
                (14, fields(SET, false)),
            ];
            let name = self.names.get(usize::from(table_id)).map_or("", String::as_str);
            let most = self.pipeline.tables.get(usize::from(table_id)).map_or(0, |t| t.most());
            TableFeatures {
                table_id,
                pad: Pad::default(),
                name: Text::new(super::ports::cut(name, 31)),
                metadata_match: u64::MAX,
                metadata_write: u64::MAX,
                config: 0,
                max_entries: u32::try_from(most).unwrap_or(u32::MAX),
                properties: properties.into_iter().map(|(kind, list)| Property { kind, list }).collect(),
            }
        };
        (0..count).map(one).collect()
    }
    /// Changes all tables or none. The request has to name each table once, with its present
    /// capabilities; name and maximum of flows may differ.
    ///
    /// # Errors
    /// With what to answer where that is not possible with tables that are as they are.
    pub(super) fn set_table_features(&mut self, wanted: &[TableFeatures]) -> Result<(), OfErrorCode> {
        let offered = self.table_features();
        let ids: Vec<u8> = wanted.iter().map(|t| t.table_id).collect();
        if (1..ids.len()).any(|at| ids[..at].contains(&ids[at])) {
            return Err(BAD_TABLE);
        }
        for table in wanted {
            let same = offered.get(usize::from(table.table_id)).ok_or(BAD_TABLE)?;
            if (table.metadata_match, table.metadata_write) != (same.metadata_match, same.metadata_write) {
                return Err(BAD_METADATA);
            }
            let there = self.pipeline.tables.get(usize::from(table.table_id)).map_or(0, |t| t.len());
            let most = table.max_entries as usize;
            if table.config & !TABLE_CONFIG != 0 || most < there.max(1) || most > self.cfg.flows {
                return Err(BAD_ARGUMENT);
            }
            same_properties(&table.properties, &same.properties)?;
        }
        // The request removes the tables that it does not name (section 7.3.5.5), which a fixed
        // pipeline does not support.
        if wanted.len() != offered.len() {
            return Err(NOT_ALLOWED);
        }
        for table in wanted {
            let at = usize::from(table.table_id);
            if let (Some(name), Some(flows)) = (self.names.get_mut(at), self.pipeline.tables.get_mut(at)) {
                *name = table.name.text().into_owned();
                flows.set_most(table.max_entries as usize);
            }
        }
        Ok(())
    }
}

/// Checks that a table is requested with the capabilities that it has. Properties of the table-miss
/// flow (odd numbers) are those of all flows here, and may be left out.
fn same_properties(wanted: &[Property], offered: &[Property]) -> Result<(), OfErrorCode> {
    let is_miss = |kind: u16| kind & 1 == 1;
    for (at, property) in wanted.iter().enumerate() {
        let kind = property.kind & !1;
        let same = offered.iter().find(|p| p.kind == kind).ok_or(OfErrorCode::BAD_TABLE_FEATURE_TYPE)?;
        let twice = wanted[..at].iter().any(|p| p.kind == property.kind);
        if twice || !same_list(&property.list, &same.list) {
            return Err(BAD_ARGUMENT);
        }
    }
    let said = |p: &Property| wanted.iter().any(|w| w.kind == p.kind);
    if offered.iter().all(|p| is_miss(p.kind) || said(p)) { Ok(()) } else { Err(BAD_ARGUMENT) }
}

/// Whether two lists have the same members, in any order.
fn same_list(a: &List, b: &List) -> bool {
    fn sorted<T, K: Ord>(list: &[T], key: impl Fn(&T) -> K) -> Vec<K> {
        let mut keys: Vec<K> = list.iter().map(key).collect();
        keys.sort();
        keys.dedup();
        keys
    }
    match (a, b) {
        (List::Instructions(a), List::Instructions(b)) | (List::Actions(a), List::Actions(b)) => {
            sorted(a, |c| c.kind) == sorted(b, |c| c.kind)
        }
        (List::NextTables(a), List::NextTables(b)) => sorted(&a.0, |t| *t) == sorted(&b.0, |t| *t),
        (List::Fields(a), List::Fields(b)) => {
            let key = |id: &Id| (id.class, id.number, id.has_mask);
            sorted(a, key) == sorted(b, key)
        }
        _ => false,
    }
}
