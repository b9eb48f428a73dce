//! A blocking netlink socket: sends many requests at once, and names the request in every error,
//! with the kernel's extended error text.

use crate::Error;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// The most requests without an acknowledgement: their acknowledgements fit the socket's receive
/// buffer.
const WINDOW: usize = 48;
/// Extended acknowledgement: the text attribute (linux/netlink.h: NLMSGERR_ATTR_MSG).
const ERROR_TEXT: u16 = 1;

/// A request, and its name in errors.
#[derive(Debug, Clone)]
pub struct Request {
    /// e.g. `veth edge1-1`.
    pub what: String,
    /// The message to send.
    pub message: RouteNetlinkMessage,
    /// Flags besides REQUEST and ACK.
    pub flags: u16,
}

/// Flags for a request that creates an object.
pub const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// Flags for a request that creates or replaces an object.
pub const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// A socket in the namespace of the thread that opened it.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the thread's network namespace.
    ///
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Netlink, Error> {
        let fail = || Error::io("opening a netlink socket");
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(fail())?;
        socket.bind_auto().map_err(fail())?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(fail())?;
        // Old kernels have no extended acknowledgements; errors are then shorter.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_rx_buf_sz(1usize << 20);
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Executes requests in order, many at a time.
    ///
    /// The first refusal; requests behind it may have been executed.
    pub fn batch(&mut self, requests: &[Request]) -> Result<(), Error> {
        let mut first = None;
        for window in requests.chunks(WINDOW) {
            let start = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            for request in window {
                self.sequence = self.sequence.wrapping_add(1);
                append(
                    &mut bytes,
                    request.message.clone(),
                    self.sequence,
                    NLM_F_REQUEST | NLM_F_ACK | request.flags,
                );
            }
            self.socket.send(&bytes, 0).map_err(Error::io("sending netlink requests"))?;
            let mut left = window.len();
            while left > 0 {
                let (data, _) =
                    self.socket.recv_from_full().map_err(Error::io("receiving netlink answers"))?;
                for (sequence, answer) in messages(&data, "requests")? {
                    let index = sequence.wrapping_sub(start) as usize;
                    let (Some(request), Answer::Ack(result)) = (window.get(index), answer) else { continue };
                    left -= 1;
                    if let Err((source, text)) = result {
                        first.get_or_insert(Error::Refused {
                            what: request.what.clone(),
                            cause: source,
                            text,
                        });
                    }
                }
            }
            if let Some(error) = first {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Requests one object.
    ///
    /// # Errors
    /// When the kernel refuses (there is no such thing), or its answer cannot be read.
    pub fn get(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.ask(what, message, NLM_F_REQUEST | NLM_F_ACK)
    }

    /// Requests a list.
    ///
    /// # Errors
    /// When the kernel refuses, or its answer cannot be read.
    pub fn dump(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.ask(what, message, NLM_F_REQUEST | NLM_F_DUMP)
    }

    fn ask(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        append(&mut bytes, message, self.sequence, flags);
        self.socket.send(&bytes, 0).map_err(Error::io(format!("asking for {what}")))?;
        let mut list = Vec::new();
        loop {
            let (data, _) = self.socket.recv_from_full().map_err(Error::io(format!("receiving {what}")))?;
            for (sequence, answer) in messages(&data, what)? {
                match answer {
                    _ if sequence != self.sequence => {}
                    Answer::Done => return Ok(list),
                    // A dump ends with Done, any other request with its acknowledgement.
                    Answer::Ack(Ok(())) if flags & NLM_F_DUMP == NLM_F_DUMP => {}
                    Answer::Ack(Ok(())) => return Ok(list),
                    Answer::Ack(Err((source, text))) => {
                        return Err(Error::Refused { what: what.to_owned(), cause: source, text });
                    }
                    Answer::Item(item) => list.push(*item),
                }
            }
        }
    }
}

fn append(out: &mut Vec<u8>, message: RouteNetlinkMessage, sequence: u32, flags: u16) {
    let mut message = NetlinkMessage::from(message);
    message.header.sequence_number = sequence;
    message.header.flags = flags;
    message.finalize();
    let start = out.len();
    out.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut out[start..]);
}

enum Answer {
    Ack(Result<(), (std::io::Error, String)>),
    Done,
    Item(Box<RouteNetlinkMessage>),
}

/// All messages of one datagram. Every length is checked before it is used.
fn messages(mut data: &[u8], what: &str) -> Result<Vec<(u32, Answer)>, Error> {
    let garbled = |why: String| Error::Garbled { what: what.to_owned(), why };
    let mut list = Vec::new();
    while let Some(length) = data.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l) as usize) {
        if length < 16 || length > data.len() {
            return Err(garbled(format!("a message of {length} bytes in {}", data.len())));
        }
        let (one, rest) = data.split_at(length);
        data = rest.get(length.next_multiple_of(4) - length..).unwrap_or_default();
        let message =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(one).map_err(|e| garbled(e.to_string()))?;
        let sequence = message.header.sequence_number;
        let answer = match message.payload {
            NetlinkPayload::Done(_) => Answer::Done,
            NetlinkPayload::Error(error) => Answer::Ack(match error.code {
                None => Ok(()),
                Some(code) => {
                    // The lowest number has no positive counterpart.
                    let code = code.get().checked_abs().unwrap_or(i32::MAX);
                    Err((std::io::Error::from_raw_os_error(code), error_text(one)))
                }
            }),
            NetlinkPayload::InnerMessage(item) => Answer::Item(Box::new(item)),
            _ => continue,
        };
        list.push((sequence, answer));
    }
    Ok(list)
}

/// The items of one datagram of the kernel's reply, without acknowledgements. Accepts any bytes.
///
/// When the bytes are not messages.
pub fn items(data: &[u8]) -> Result<Vec<RouteNetlinkMessage>, Error> {
    let all = messages(data, "a datagram")?;
    Ok(all
        .into_iter()
        .filter_map(|(_, answer)| match answer {
            Answer::Item(item) => Some(*item),
            Answer::Ack(_) | Answer::Done => None,
        })
        .collect())
}

/// The kernel's text in an error message: behind the header (16 bytes), the code (4) and the
/// request's header (16, with the capped acknowledgement asked for above); empty if there is none.
/// Accepts any bytes.
pub fn error_text(message: &[u8]) -> String {
    let mut attributes = message.get(36..).unwrap_or_default();
    while let Some([l0, l1, k0, k1]) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        if length < 4 || length > attributes.len() {
            break;
        }
        if u16::from_ne_bytes([*k0, *k1]) & 0x3fff == ERROR_TEXT {
            let text = attributes.get(4..length).unwrap_or_default();
            return String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_have_a_text_or_none(data in prop::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(error_text(&data).len() <= 3 * data.len());
        }

        /// An acknowledgement with any code is a success or a refusal.
        #[test]
        fn a_code_of_any_size_is_an_error_in_words(code in prop_oneof![Just(i32::MIN), Just(i32::MAX), any::<i32>()]) {
            let mut data = 36u32.to_ne_bytes().to_vec();
            // NLMSG_ERROR, no flags, sequence number and port 0; the code, and the header of the
            // request.
            data.extend_from_slice(&2u16.to_ne_bytes());
            data.extend_from_slice(&[0; 10]);
            data.extend_from_slice(&code.to_ne_bytes());
            data.extend_from_slice(&[0; 16]);
            let list = messages(&data, "a test").expect("a message");
            prop_assert!(matches!(&list[..], [(0, Answer::Ack(result))] if result.is_ok() == (code == 0)));
        }

        /// The lengths that this reader relies on are checked before they are used.
        #[test]
        fn a_datagram_of_any_lengths_is_read_or_garbled(
            parts in prop::collection::vec((any::<u32>(), 0u16..4, prop::collection::vec(any::<u8>(), 0..40)), 0..4),
        ) {
            let mut data = Vec::new();
            for (length, kind, body) in parts {
                // Half of the lengths are valid.
                let length = if length % 4 == 0 { length } else { 16 + body.len() as u32 };
                data.extend_from_slice(&length.to_ne_bytes());
                data.extend_from_slice(&kind.to_ne_bytes());
                data.extend_from_slice(&[0; 10]);
                data.extend(body);
                data.resize(data.len().next_multiple_of(4), 0);
            }
            let _ = messages(&data, "a test");
        }
    }
}
