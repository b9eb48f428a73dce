//! Hosts that announce themselves every so often, by gratuitous ARP (RFC 5227 section 3): who is
//! silent is then seen by whoever tracks hosts, without being asked (`[discovery] announce`).

use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tandem_linux::netns::{NetNs, visit};
use tandem_linux::packet::Transmitter;

/// Who says who it is, and where.
#[derive(Debug, Clone, Copy)]
pub struct Announcement {
    /// The number of the interface in its namespace.
    pub interface: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
}

impl Announcement {
    /// An ARP request of its own address by itself, to everybody: an announcement.
    fn frame(&self) -> Vec<u8> {
        const ARP_ETHERNET_IPV4_REQUEST: [u8; 10] = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
        let own = self.address.octets();
        [&[0xff; 6][..], &self.mac, &ARP_ETHERNET_IPV4_REQUEST, &self.mac, &own, &[0; 6], &own].concat()
    }
}

/// Sends one announcement each.
///
/// # Errors
/// When a namespace cannot be entered.
pub fn send(all: &[(NetNs, Announcement)]) -> anyhow::Result<()> {
    let places: Vec<(&NetNs, Announcement)> = all.iter().map(|(ns, who)| (ns, *who)).collect();
    let sent = visit(&places, |who| -> std::io::Result<()> {
        let frame = who.frame();
        let mut transmitter = Transmitter::open(who.interface, 0).map_err(std::io::Error::other)?;
        transmitter.send(&frame, &[(0, frame.len() as u32)])
    })?;
    // One that is just being made or ended announces itself the next time, or never more.
    for error in sent.into_iter().filter_map(Result::err) {
        tracing::debug!("an announcement was not sent: {error}");
    }
    Ok(())
}

/// Lets a lab's hosts announce themselves every `period`, for as long as the lab is there.
///
/// # Errors
/// When no thread can be had.
pub fn every<W: Send + Sync + 'static>(
    period: Duration,
    lab: &Arc<W>,
    announce: impl Fn(&W) -> anyhow::Result<()> + Send + 'static,
) -> std::io::Result<()> {
    let lab: Weak<W> = Arc::downgrade(lab);
    let run = move || {
        while let Some(lab) = lab.upgrade() {
            if let Err(error) = announce(&lab) {
                tracing::warn!("hosts do not announce themselves: {error:#}");
            }
            drop(lab);
            std::thread::sleep(period);
        }
    };
    std::thread::Builder::new().name("announce".into()).spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_asks_everybody_for_its_own_address() {
        let address = Ipv4Addr::new(10, 0, 1, 2);
        let frame = Announcement { interface: 1, mac: [2, 0, 0, 0, 0, 9], address }.frame();
        let headers = etherparse::Ethernet2HeaderSlice::from_slice(&frame).expect("Ethernet");
        assert_eq!((headers.destination(), headers.source()), ([0xff; 6], [2, 0, 0, 0, 0, 9]));
        let arp = etherparse::ArpPacketSlice::from_slice(&frame[14..]).expect("ARP");
        assert_eq!(arp.operation(), etherparse::ArpOperation::REQUEST);
        assert_eq!(
            (arp.sender_protocol_addr(), arp.target_protocol_addr()),
            (&[10, 0, 1, 2][..], &[10, 0, 1, 2][..])
        );
        assert_eq!((arp.sender_hw_addr(), arp.target_hw_addr()), (&[2, 0, 0, 0, 0, 9][..], &[0; 6][..]));
    }
}
