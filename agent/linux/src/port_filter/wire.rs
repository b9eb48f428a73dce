//! Encodes messages to nftables: attributes, and a batch of messages that the kernel executes as a
//! whole or not at all (linux/netfilter/nf_tables.h, nfnetlink.h).

use crate::Error;
use crate::netlink::error_text;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::os::fd::AsRawFd;

/// The kernel answers a batch at once; a batch that it does not answer within this many seconds is
/// an error instead of a hang.
const ANSWER_S: i64 = 10;
/// Receive buffer for the acknowledgements of one batch: 36 bytes each, more with a text.
const RECEIVE_BUFFER: usize = 1 << 18;

// linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NESTED: u16 = 0x8000;

// linux/netfilter/nfnetlink.h.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;

/// NFPROTO_BRIDGE (linux/netfilter.h).
const BRIDGE: u8 = 7;

/// The nftables messages that are used here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Message {
    NewTable = 0,
    DelTable = 2,
    NewChain = 3,
    NewRule = 6,
    NewSet = 9,
    NewElements = 12,
    DelElements = 14,
}

/// Attributes in a row.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// An attribute of any bytes.
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Attributes {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A name.
    pub(super) fn text(self, kind: u16, value: &str) -> Attributes {
        let mut value = value.as_bytes().to_vec();
        value.push(0);
        self.bytes(kind, &value)
    }

    /// A number, in network byte order as nftables requires.
    pub(super) fn number(self, kind: u16, value: u32) -> Attributes {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Nested attributes.
    pub(super) fn nest(self, kind: u16, inner: Attributes) -> Attributes {
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// Messages that are executed together.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// The name of each message for errors; number 0 is the begin of the batch.
    what: Vec<String>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let mut batch = Batch { bytes: Vec::new(), what: Vec::new() };
        batch.message(BATCH_BEGIN, 0, (0, SUBSYSTEM), &[]);
        batch.what.push("the beginning of a batch of nftables".into());
        batch
    }

    fn message(&mut self, kind: u16, flags: u16, family: (u8, u16), attributes: &[u8]) {
        let length = u32::try_from(20 + attributes.len()).unwrap_or(u32::MAX);
        let sequence = u32::try_from(self.what.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        // struct nfgenmsg: family, version, resource.
        self.bytes.extend_from_slice(&[family.0, 0]);
        self.bytes.extend_from_slice(&family.1.to_be_bytes());
        self.bytes.extend_from_slice(attributes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds a message; `what` is its name in errors.
    pub(super) fn add(&mut self, message: Message, what: impl Into<String>, attributes: &Attributes) {
        let kind = SUBSYSTEM << 8 | message as u16;
        let flags = match message {
            Message::NewTable
            | Message::NewChain
            | Message::NewRule
            | Message::NewSet
            | Message::NewElements => NLM_F_CREATE | 0x800,
            Message::DelTable | Message::DelElements => 0,
        };
        // 0x800 is NLM_F_APPEND: rules are evaluated in the order in which they are added.
        self.message(kind, NLM_F_ACK | flags, (BRIDGE, 0), &attributes.0);
        self.what.push(what.into());
    }

    /// Executes the batch in the thread's namespace.
    ///
    /// The first message that the kernel refuses, with its reason; nothing of the batch was
    /// executed then.
    pub(super) fn send(mut self) -> Result<(), Error> {
        self.message(BATCH_END, 0, (0, SUBSYSTEM), &[]);
        let fail = || Error::nix("speaking to nftables");
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )
        .map_err(fail())?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(fail())?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_S, 0)).map_err(fail())?;
        let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
        send(fd.as_raw_fd(), &self.bytes, MsgFlags::empty()).map_err(fail())?;
        // Each message except begin and end is acknowledged; a refused begin is the only reply.
        let mut left = self.what.len() - 1;
        let mut first = None;
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(fail())?;
            let mut data = buffer.get(..length).unwrap_or_default();
            while let Some(answer) = Acknowledgement::take(&mut data) {
                left = left.saturating_sub(1);
                if let Some((source, text)) = answer.refusal {
                    let what = self.what.get(answer.sequence as usize).cloned().unwrap_or_default();
                    if answer.sequence == 0 {
                        return Err(Error::Refused { what, cause: source, text });
                    }
                    first.get_or_insert(Error::Refused { what, cause: source, text });
                }
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// The kernel's reply to one message.
struct Acknowledgement {
    sequence: u32,
    refusal: Option<(std::io::Error, String)>,
}

impl Acknowledgement {
    /// The next one in a datagram; `None` at its end, or if it is malformed.
    fn take(data: &mut &[u8]) -> Option<Acknowledgement> {
        loop {
            let length = usize::try_from(u32::from_ne_bytes(*data.first_chunk::<4>()?)).ok()?;
            let one = data.get(..length).filter(|_| length >= 16)?;
            *data = data.get(length.next_multiple_of(4)..).unwrap_or_default();
            let [_, _, _, _, k0, k1, _, _, s0, s1, s2, s3] = *one.first_chunk::<12>()?;
            if u16::from_ne_bytes([k0, k1]) != NLMSG_ERROR {
                continue;
            }
            let code = i32::from_ne_bytes(*one.get(16..)?.first_chunk::<4>()?);
            let refusal = (code != 0)
                .then(|| (std::io::Error::from_raw_os_error(code.saturating_neg()), error_text(one)));
            return Some(Acknowledgement { sequence: u32::from_ne_bytes([s0, s1, s2, s3]), refusal });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let inner = Attributes::default().text(1, "ab");
        let bytes = Attributes::default().number(2, 1).nest(3, inner).0;
        assert_eq!(bytes, [8, 0, 2, 0, 0, 0, 0, 1, 12, 0, 3, 0x80, 7, 0, 1, 0, b'a', b'b', 0, 0]);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_left(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = data.as_slice();
            while Acknowledgement::take(&mut rest).is_some() {}
        }
    }
}
