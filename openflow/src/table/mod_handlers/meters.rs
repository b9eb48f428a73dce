//! Executes METER_MOD (OF 1.3.5 section 7.3.4.4) and answers requests about meters.

use super::{Refusal, Removed, replies13, span};
use crate::of13::meter::{ALL, BandKind, MAX};
use crate::of13::multipart::{MultipartReply, ReplyBody};
use crate::of13::stats::{Counter, MeterConfig, MeterFeatures, MeterStats};
use crate::of13::{Band, MeterMod};
use crate::table::flows::RemovedReason;
use crate::table::meters::{Meter, flag};
use crate::table::pipeline::Pipeline;
use crate::wire::Pad;
use tandem_model::Time;

/// OFPET_METER_MOD_FAILED.
const METER_MOD_FAILED: u16 = 12;
/// The most bands of a meter.
const MOST_BANDS: u8 = 16;
/// The OFPMF bits that are supported: all.
const FLAGS: u16 = flag::KBPS | flag::PKTPS | flag::BURST | flag::STATS;

fn refused(why: impl Into<String>, code: u16) -> Refusal {
    Refusal::new(why, METER_MOD_FAILED, code)
}

impl Pipeline {
    /// Executes a METER_MOD, with at most `most` meters. Deleting a meter also removes the flows
    /// that use it.
    ///
    /// Returns the OpenFlow error to answer with; nothing is changed then.
    pub fn meter_mod(&mut self, m: &MeterMod, most: usize, now: Time) -> Result<Vec<Removed>, Refusal> {
        let id = m.meter_id;
        let good = (1..=MAX).contains(&id);
        match m.command {
            0 | 1 if !good => {
                return Err(refused(format!("{id:#x} is no meter that this switch can have"), 2));
            }
            0 if self.meters.get(id).is_some() => {
                return Err(refused(format!("meter {id} is there already"), 1));
            }
            1 if self.meters.get(id).is_none() => return Err(refused(format!("there is no meter {id}"), 3)),
            0 if self.meters.len() >= most => {
                return Err(refused(format!("there is no room for more than {most} meters"), 10));
            }
            0 | 1 => {}
            2 => return self.meter_delete(id),
            command => return Err(refused(format!("there is no command {command}"), 4)),
        }
        if m.flags & !FLAGS != 0 || m.flags & flag::KBPS != 0 && m.flags & flag::PKTPS != 0 {
            return Err(refused(format!("flags {:#06x} are unknown or contradict each other", m.flags), 5));
        }
        if m.bands.len() > usize::from(MOST_BANDS) {
            return Err(refused(format!("a meter has at most {MOST_BANDS} bands"), 11));
        }
        for band in &m.bands {
            band_is_good(band)?;
        }
        let mut meter = Meter::new(id, m.flags, m.bands.clone(), now);
        if let Some(old) = self.meters.get(id) {
            (meter.packets, meter.bytes, meter.added) = (old.packets, old.bytes, old.added);
        }
        self.meters.put(meter);
        Ok(Vec::new())
    }

    fn meter_delete(&mut self, id: u32) -> Result<Vec<Removed>, Refusal> {
        if id == ALL {
            self.meters.remove(None);
            return Ok(self.take_out(RemovedReason::Deleted, |f| f.instructions.meter.is_some()));
        }
        // Deleting a meter that does not exist is not an error (section 6.5).
        if self.meters.get(id).is_none() {
            return Ok(Vec::new());
        }
        self.meters.remove(Some(id));
        Ok(self.take_out(RemovedReason::Deleted, |f| f.instructions.meter == Some(id)))
    }

    fn meters_asked(&self, asked: u32) -> Result<impl Iterator<Item = &Meter>, Refusal> {
        if asked != ALL && self.meters.get(asked).is_none() {
            return Err(refused(format!("there is no meter {asked}"), 3));
        }
        Ok(self.meters.iter().filter(move |m| asked == ALL || asked == m.id))
    }

    /// Answers OFPMP_METER; OFPM_ALL requests all meters.
    pub(super) fn meter_stats(&self, asked: u32, now: Time) -> Result<Vec<MultipartReply>, Refusal> {
        let of = |m: &Meter| {
            let flows = self.tables.iter().flat_map(|t| t.iter());
            let count = flows.filter(|f| f.instructions.meter == Some(m.id)).count();
            let (duration_sec, duration_nsec) = span(m.age(now));
            MeterStats {
                meter_id: m.id,
                pad: Pad::default(),
                flow_count: u32::try_from(count).unwrap_or(u32::MAX),
                packet_in_count: m.packets,
                byte_in_count: m.bytes,
                duration_sec,
                duration_nsec,
                bands: m
                    .acted()
                    .map(|(packet_count, byte_count)| Counter { packet_count, byte_count })
                    .collect(),
            }
        };
        Ok(replies13(self.meters_asked(asked)?.map(of).collect(), ReplyBody::Meter))
    }

    /// Answers OFPMP_METER_CONFIG; OFPM_ALL requests all meters.
    pub(super) fn meter_config(&self, asked: u32) -> Result<Vec<MultipartReply>, Refusal> {
        let of = |m: &Meter| MeterConfig { flags: m.flags, meter_id: m.id, bands: m.bands.clone() };
        Ok(replies13(self.meters_asked(asked)?.map(of).collect(), ReplyBody::MeterConfig))
    }

    /// The reply to OFPMP_METER_FEATURES for at most `most` meters.
    pub fn meter_features(most: usize) -> ReplyBody {
        ReplyBody::MeterFeatures(MeterFeatures {
            max_meter: u32::try_from(most).unwrap_or(u32::MAX),
            // OFPMBT_DROP and OFPMBT_DSCP_REMARK.
            band_types: 1 << 1 | 1 << 2,
            capabilities: FLAGS.into(),
            max_bands: MOST_BANDS,
            max_color: 0,
            pad: Pad::default(),
        })
    }
}

fn band_is_good(band: &Band) -> Result<(), Refusal> {
    match band.kind {
        _ if band.rate == 0 => Err(refused("a band needs a rate", 6)),
        BandKind::Drop(_) => Ok(()),
        BandKind::DscpRemark(level, _) if (1..=3).contains(&level) => Ok(()),
        BandKind::DscpRemark(level, _) => {
            Err(refused(format!("drop precedence cannot be raised by {level}"), 9))
        }
        BandKind::Experimenter { .. } => Err(refused("this switch has no experimenters' bands", 8)),
    }
}
