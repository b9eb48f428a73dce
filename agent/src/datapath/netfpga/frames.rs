//! Frames that are sent into a card whose ports are interfaces of this machine, and frames that the
//! card sent to software.

use super::offload_io::CardIo;
use super::open::chain;
use crate::datapath::soft::io::PacketIo;
use tandem_fpga_card::InjectError;
use tandem_fpga_config::registers::AccessError;
use tandem_linux::packet::Batch;
use tandem_model::Time;

impl CardIo {
    /// Sends frames into one of the card's queues, as densely as the card accepts them. Frames that
    /// leave by ports are sent out; those that the card sends to its CPU ports are returned, with
    /// the OpenFlow number of their input port.
    pub(super) fn inject(&mut self, from: u8, frames: &[&[u8]], now: Time) -> Vec<(u32, Vec<u8>)> {
        let taken = match (&mut self.card, frames) {
            (Some(opened), [frame]) => opened.card.inject(from, frame),
            (Some(opened), _) if self.bursts => {
                let all: Vec<(u8, &[u8])> = frames.iter().map(|f| (from, *f)).collect();
                opened.card.burst(&all)
            }
            (Some(_), _) => return frames.iter().flat_map(|f| self.inject(from, &[f], now)).collect(),
            (None, _) => Err(InjectError::None),
        };
        let sent = match taken {
            Ok(sent) => {
                frames.iter().for_each(|f| self.recovery.offered(from, f.len()));
                sent
            }
            Err(InjectError::Access(AccessError::Refused { .. }) | InjectError::None)
                if self.card.is_some() && frames.len() > 1 =>
            {
                // A simulation that does not support bursts.
                self.bursts = false;
                return self.inject(from, frames, now);
            }
            Err(error) => {
                if let Some(number) = self.number(from / 2) {
                    let lost = self.lost.entry(number).or_default();
                    let lost = if from.is_multiple_of(2) { &mut lost.received } else { &mut lost.sent };
                    *lost += frames.len() as u64;
                }
                match error {
                    // The card still answers: a simulation without packets, or one whose buffers
                    // are full.
                    InjectError::Access(AccessError::Refused { .. }) | InjectError::None => {
                        let why = format!("the card takes no frames: {}", chain(&error));
                        if self.card.is_some() && self.no_packets.as_ref() != Some(&why) {
                            tracing::warn!("switch {}: {why}", self.switch.name);
                            self.no_packets = Some(why);
                        }
                    }
                    InjectError::Access(_) => self.fail("putting a frame into the card", &error, now),
                }
                return Vec::new();
            }
        };
        self.no_packets = None;
        let mut up = Vec::new();
        for (queue, frame) in sent {
            let Some(number) = self.number(queue / 2) else { continue };
            if queue % 2 == 0 {
                self.packets.transmit(number, None, &frame, now);
            } else {
                up.push((number, frame));
            }
        }
        up
    }

    /// Handles frames that came to software: flows that need exact entries get one for each.
    pub(super) fn seen(&mut self, batch: &mut Batch, now: Time) {
        let (Some(opened), Some(offload)) = (&mut self.card, &mut self.offload) else { return };
        if self.recovery.is_clearing() {
            return;
        }
        let mut failed = None;
        for (number, frame) in batch.frames() {
            if let Err(error) = offload.packet_seen(frame, number, now, &mut opened.card) {
                failed = Some(error);
                break;
            }
        }
        if let Some(error) = failed {
            self.fail("making an exact entry", &error, now);
        }
    }
}
