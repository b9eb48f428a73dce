//! Requests in the text protocol of the thesis (Teixeira 2013): `1/cpu/ram/disk/net/class/timeout`
//! asks for a VM, `n/ip1/.../ipn` for a group of VMs that run. What it says of units and of the end
//! of a request is in `docs/text-socket.md`.
//!
//! Reading it is a function of the text alone; [`Framer`] finds where requests end in what a
//! connection sends.

use crate::{BitRate, Bytes, Resources};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Bytes of a request at most, its end not counted: a group of the most members has fewer.
pub const LONGEST: usize = 8192;

/// Members of a group at most.
pub const MOST_MEMBERS: usize = 256;

/// A request as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextRequest {
    /// A VM.
    Vm {
        /// What it is to have.
        resources: Resources,
        /// A class by its name or its place in the site file; empty for the default one.
        class: String,
        /// How long it lives; `None` until it is deleted.
        timeout: Option<Duration>,
    },
    /// VMs that are to talk to each other, by their addresses.
    Group(Vec<Ipv4Addr>),
}

/// Why a text is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct BadRequest {
    /// Where, in characters from 1 on.
    pub column: usize,
    /// What is wrong there, and what is expected.
    pub problem: String,
}

/// A field of a request, with its place.
struct Field<'a> {
    column: usize,
    text: &'a str,
}

impl Field<'_> {
    fn bad(&self, expected: impl fmt::Display) -> BadRequest {
        let shown = crate::text::escaped_to(self.text, 40);
        BadRequest { column: self.column, problem: format!("\"{shown}\" is not {expected}") }
    }

    /// A number of `unit`s, whole or with decimals, up to `most` of them.
    fn amount(&self, what: &str, unit: u64, most: u64) -> Result<u64, BadRequest> {
        let bad = || self.bad(format_args!("{what}, a number from 0 to {most}"));
        let (whole, fraction) = self.text.split_once('.').unwrap_or((self.text, ""));
        let is_number = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 18
            || fraction.len() > 9
            || !is_number(whole)
            || !is_number(fraction)
        {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let mut part = 0u128;
        if !fraction.is_empty() {
            let digits: u128 = fraction.parse().map_err(|_| bad())?;
            part = digits * u128::from(unit) / 10u128.pow(fraction.len() as u32);
        }
        if whole > most || (whole == most && part > 0) {
            return Err(bad());
        }
        let all = u128::from(whole) * u128::from(unit) + part;
        u64::try_from(all).map_err(|_| bad())
    }
}

/// Reads a request.
///
/// # Errors
/// When the text is none, with the place of what is wrong.
pub fn parse(text: &str) -> Result<TextRequest, BadRequest> {
    if text.len() > LONGEST {
        let problem = format!("a request has at most {LONGEST} bytes, and this one has {}", text.len());
        return Err(BadRequest { column: 1, problem });
    }
    let mut column = 1;
    let mut fields = Vec::new();
    for part in text.split('/') {
        let trimmed = part.trim_start_matches(' ');
        let lead = part.len() - trimmed.len();
        fields.push(Field { column: column + lead, text: trimmed.trim_end_matches(' ') });
        column += part.chars().count() + 1;
    }
    let Some((first, rest)) = fields.split_first() else {
        return Err(BadRequest { column: 1, problem: "nothing was asked".into() });
    };
    let kind =
        "1 for a VM (1/cpu/ram/disk/net/class/timeout), or the number of a group's VMs (n/ip1/.../ipn)";
    let count: usize = match first.text.len() {
        1..=4 if first.text.bytes().all(|b| b.is_ascii_digit()) => {
            first.text.parse().map_err(|_| first.bad(kind))?
        }
        _ => return Err(first.bad(kind)),
    };
    match count {
        0 => Err(first.bad(kind)),
        1 => vm(rest, column),
        2..=MOST_MEMBERS => group(count, rest, column),
        _ => Err(first.bad(format_args!("a number of VMs up to {MOST_MEMBERS}"))),
    }
}

fn vm(fields: &[Field<'_>], end: usize) -> Result<TextRequest, BadRequest> {
    let [cpu, ram, disk, net, class, timeout] = fields else {
        let problem = format!(
            "a VM is asked for by 1/cpu/ram/disk/net/class/timeout, and here are {} fields instead of 7",
            fields.len() + 1
        );
        let column = fields.get(6).map_or(end.saturating_sub(1), |f| f.column);
        return Err(BadRequest { column, problem });
    };
    let cores = cpu.amount("a number of CPU cores", 1, 65_536)?;
    if cores == 0 || cpu.text.contains('.') {
        return Err(cpu.bad("a whole number of CPU cores, 1 or more"));
    }
    let resources = Resources {
        cpu: u32::try_from(cores).unwrap_or(u32::MAX),
        ram: Bytes(ram.amount("MiB of RAM", 1 << 20, 1 << 30)?),
        disk: Bytes(disk.amount("GiB of disk", 1 << 30, 1 << 30)?),
        net: BitRate(net.amount("Mbit/s of network", 1_000_000, 1_000_000_000)?),
    };
    if resources.ram.0 == 0 {
        return Err(ram.bad("MiB of RAM, more than 0"));
    }
    let named = class.text.len() <= 16 && class.text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !named {
        return Err(class.bad("a class's name or number"));
    }
    // Milliseconds are what a request by the API can say too.
    let lives = timeout.amount("seconds to live, 0 for no end", 1000, 3_155_760_000)?;
    let timeout = (lives > 0).then(|| Duration::from_millis(lives));
    Ok(TextRequest::Vm { resources, class: class.text.to_owned(), timeout })
}

fn group(count: usize, fields: &[Field<'_>], end: usize) -> Result<TextRequest, BadRequest> {
    if fields.len() != count {
        let problem = format!("{count} addresses are announced, and {} are there", fields.len());
        let column = fields.get(count).map_or(end.saturating_sub(1), |f| f.column);
        return Err(BadRequest { column, problem });
    }
    let address = |field: &Field<'_>| field.text.parse().map_err(|_| field.bad("an IPv4 address"));
    fields.iter().map(address).collect::<Result<_, _>>().map(TextRequest::Group)
}

/// How a request ended, which its answer repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A newline; a carriage return before it is no part of the request.
    Newline,
    /// A pause, or the end of what the peer sends: requesters that send a text and wait.
    Silence,
}

/// Finds the requests in what a connection sends.
#[derive(Debug, Clone, Default)]
pub struct Framer {
    pending: Vec<u8>,
}

/// What is no request, whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Longer than [`LONGEST`].
    #[error("a request has at most {LONGEST} bytes, and this one has more")]
    TooLong,
    /// Bytes that are no text.
    #[error("a request is ASCII text, and byte {at} of this one is not")]
    NotText {
        /// Which, from 1 on.
        at: usize,
    },
}

impl Framer {
    /// Takes in what has come; [`Framer::next_line`] then gives the requests that are whole.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// True while a request has begun and has not ended.
    pub fn is_within(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The next request that a newline has ended; empty lines are none.
    ///
    /// # Errors
    /// When it is too long, ended or not, or no text. What is too long cannot be gone on from.
    pub fn next_line(&mut self) -> Result<Option<String>, BadFrame> {
        loop {
            let Some(at) = self.pending.iter().position(|b| *b == b'\n') else {
                return if self.pending.len() > LONGEST { Err(BadFrame::TooLong) } else { Ok(None) };
            };
            let rest = self.pending.split_off(at + 1);
            let mut line = std::mem::replace(&mut self.pending, rest);
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if !line.is_empty() {
                return text(line).map(Some);
            }
        }
    }

    /// What has come and was not ended by a newline, as a request that silence has ended.
    ///
    /// # Errors
    /// As [`Framer::next_line`].
    pub fn take_rest(&mut self) -> Result<Option<String>, BadFrame> {
        let rest = std::mem::take(&mut self.pending);
        if rest.is_empty() { Ok(None) } else { text(rest).map(Some) }
    }
}

fn text(bytes: Vec<u8>) -> Result<String, BadFrame> {
    if bytes.len() > LONGEST {
        return Err(BadFrame::TooLong);
    }
    match bytes.iter().position(|b| !matches!(b, b' '..=b'~')) {
        Some(at) => Err(BadFrame::NotText { at: at + 1 }),
        None => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(text: &str) -> usize {
        parse(text).expect_err(text).column
    }

    #[test]
    fn a_vm_is_read_with_its_units() {
        let Ok(TextRequest::Vm { resources, class, timeout }) = parse("1/2/512/10.5/1.5/gold/60") else {
            panic!("a VM")
        };
        let expected =
            Resources { cpu: 2, ram: Bytes::mib(512), disk: Bytes((21 << 30) / 2), net: BitRate(1_500_000) };
        assert_eq!((resources, class.as_str()), (expected, "gold"));
        assert_eq!(timeout, Some(Duration::from_secs(60)));
        let Ok(TextRequest::Vm { class, timeout, .. }) = parse("1/1/128/0/0//0") else { panic!("a VM") };
        assert_eq!((class.as_str(), timeout), ("", None));
    }

    #[test]
    fn a_group_is_read_with_as_many_addresses_as_announced() {
        let members = vec![Ipv4Addr::new(10, 0, 0, 33), Ipv4Addr::new(10, 0, 1, 33)];
        assert_eq!(parse("2/10.0.0.33/10.0.1.33"), Ok(TextRequest::Group(members)));
        assert_eq!(column("2/10.0.0.33"), 12);
        assert_eq!(column("2/10.0.0.33/10.0.1.33/10.0.2.33"), 23);
        assert_eq!(column("3/10.0.0.33/10.0.1.333/10.0.2.33"), 13);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        assert_eq!(column(""), 1);
        assert_eq!(column("0/1"), 1);
        assert_eq!(column("one/1/1/1/1/0/0"), 1);
        assert_eq!(column("9999/10.0.0.1"), 1);
        assert_eq!(column("1/0/1/1/1/0/0"), 3);
        assert_eq!(column("1/1.5/1/1/1/0/0"), 3);
        assert_eq!(column("1/1/0/1/1/0/0"), 5);
        assert_eq!(column("1/1/1/-1/1/0/0"), 7);
        assert_eq!(column("1/1/1/1/1e9/0/0"), 9);
        assert_eq!(column("1/1/1/1/1/a b/0"), 11);
        assert_eq!(column("1/1/1/1/1/0/soon"), 13);
        assert_eq!(column("1/1/1/1/1/0"), 12);
        assert_eq!(column("1/1/1/1/1/0/0/0"), 15);
        assert_eq!(column("1/1/99999999999999999999/1/1/0/0"), 5);
        let why = parse("1/1/1/1/1/0/soon").expect_err("no time").to_string();
        assert_eq!(
            why,
            "column 13: \"soon\" is not seconds to live, 0 for no end, a number from 0 to 3155760000"
        );
    }

    #[test]
    fn requests_end_with_lines_or_with_silence() {
        let mut framer = Framer::default();
        framer.push(b"1/1/");
        assert_eq!((framer.next_line(), framer.is_within()), (Ok(None), true));
        framer.push(b"1\r\n\n\n2/a\nrest");
        assert_eq!(framer.next_line(), Ok(Some("1/1/1".into())));
        assert_eq!(framer.next_line(), Ok(Some("2/a".into())));
        assert_eq!(framer.next_line(), Ok(None));
        assert_eq!(framer.take_rest(), Ok(Some("rest".into())));
        assert_eq!((framer.take_rest(), framer.is_within()), (Ok(None), false));
        framer.push(b"1/\0/2\n");
        assert_eq!(framer.next_line(), Err(BadFrame::NotText { at: 3 }));
        framer.push(&[b'1'; LONGEST + 1]);
        assert_eq!(framer.next_line(), Err(BadFrame::TooLong));
    }

    proptest! {
        /// Whatever is sent, reading ends, and a fault has a place in the text.
        #[test]
        fn any_text_is_a_request_or_a_fault_with_a_place(text in "[0-9./ a-z\u{e9}-]{0,80}|[12]/.{0,60}") {
            match parse(&text) {
                Ok(TextRequest::Group(members)) => prop_assert!((2..=MOST_MEMBERS).contains(&members.len())),
                Ok(TextRequest::Vm { resources, .. }) => prop_assert!(resources.cpu > 0 && resources.ram.0 > 0),
                Err(bad) => prop_assert!((1..=text.chars().count() + 1).contains(&bad.column), "{bad}"),
            }
        }

        /// What was written as a request is read as that.
        #[test]
        fn a_vm_is_read_as_it_was_written(
            cpu in 1u32..1000, ram in 1u64..100_000, disk in 0u64..10_000, net in 0u64..100_000, lives in 0u64..1_000_000,
        ) {
            let text = format!("1/{cpu}/{ram}/{disk}/{net}/0/{lives}");
            let resources = Resources {
                cpu, ram: Bytes(ram << 20), disk: Bytes(disk << 30), net: BitRate(net * 1_000_000),
            };
            let timeout = (lives > 0).then(|| Duration::from_secs(lives));
            prop_assert_eq!(parse(&text), Ok(TextRequest::Vm { resources, class: "0".into(), timeout }));
        }

        /// However the bytes come in pieces, the same requests are found.
        #[test]
        fn pieces_do_not_matter(
            bytes in proptest::collection::vec(prop_oneof![4 => b' '..=b'~', 1 => Just(b'\n'), 1 => any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            let all = |pieces: &[&[u8]]| {
                let mut framer = Framer::default();
                let mut found = Vec::new();
                for piece in pieces {
                    framer.push(piece);
                    while let Some(next) = framer.next_line().transpose() {
                        found.push(next);
                    }
                }
                found.extend(framer.take_rest().transpose());
                found
            };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for at in cuts {
                pieces.push(&bytes[from..at]);
                from = at;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(all(&pieces), all(&[&bytes]));
        }
    }
}
