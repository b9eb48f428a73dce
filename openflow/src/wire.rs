//! Reads and writes fixed layouts: a cursor that never reads past its end, and a macro that makes a
//! struct, its reader and its writer from one list of fields.

use crate::error::{DecodeError, DecodeErrorKind, OfErrorCode};
use serde::{Serialize, Serializer};
use std::net::{Ipv4Addr, Ipv6Addr};
use tandem_model::{Dpid, Mac};

/// How strictly a message has to follow the specification, by its direction.
///
/// Lengths must be right in either: a reader never goes beyond its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// An order of a controller: everything has to be as the specification defines it, and each
    /// fault has its error.
    Orders,
    /// A report of a switch: a fault costs at most the member that has it. Padding may hold
    /// anything; match fields come in any order; unknown match fields, actions and instructions are
    /// kept as bytes, so that they equal no known ones; members of a list of flows, ports or
    /// counters that cannot be read are left out.
    Reports,
}

/// A cursor over one message or a part of it.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Offset of `bytes` in the message.
    offset: usize,
    what: &'static str,
    of_error: OfErrorCode,
    strictness: Strictness,
    /// True in a part that has a length of its own.
    nested: bool,
    /// The first member of the list that was left out: its error, and the number of all of them.
    lost: Option<(DecodeError, usize)>,
}

impl<'a> Reader<'a> {
    /// A reader of a whole message that is an order.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader::with_strictness(bytes, what, Strictness::Orders)
    }

    /// A reader of a whole message.
    pub fn with_strictness(bytes: &'a [u8], what: &'static str, strictness: Strictness) -> Reader<'a> {
        let of_error = OfErrorCode::BAD_LEN;
        Reader { bytes, offset: 0, what, of_error, strictness, nested: false, lost: None }
    }

    /// True for a report: what is not understood is kept or left out.
    pub fn is_tolerant(&self) -> bool {
        self.strictness == Strictness::Reports
    }

    /// The members that were left out of the message's list: the first one's error, and their
    /// number.
    pub fn lost(&self) -> Option<(DecodeError, usize)> {
        self.lost
    }

    /// The same position as part `what`, whose errors are `of_error`.
    pub fn part(&self, what: &'static str, of_error: OfErrorCode) -> Reader<'a> {
        Reader { what, of_error, ..*self }
    }

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// True at the end.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// An error at this position, with the OpenFlow error of this part.
    pub fn error(&self, problem: DecodeErrorKind) -> DecodeError {
        DecodeError { what: self.what, offset: self.offset, problem, of_error: self.of_error }
    }

    /// An error at this position, with another OpenFlow error.
    pub fn blamed(&self, problem: DecodeErrorKind, of_error: OfErrorCode) -> DecodeError {
        DecodeError { what: self.what, offset: self.offset, problem, of_error }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.bytes.split_at_checked(n) {
            Some((head, rest)) => {
                self.bytes = rest;
                self.offset += n;
                Ok(head)
            }
            None => Err(self.error(DecodeErrorKind::Short { missing: n - self.bytes.len() })),
        }
    }

    /// The next `n` bytes as a reader of their own.
    pub fn sub(&mut self, n: usize) -> Result<Reader<'a>, DecodeError> {
        let before = *self;
        Ok(Reader { bytes: self.take(n)?, nested: true, lost: None, ..before })
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes;
        self.offset += rest.len();
        self.bytes = &[];
        rest
    }

    /// Looks at a 16-bit number `at` bytes ahead without moving.
    pub fn peek16(&self, at: usize) -> Result<u16, DecodeError> {
        match self.bytes.get(at..at + 2) {
            Some([a, b]) => Ok(u16::from_be_bytes([*a, *b])),
            _ => {
                Err(self.error(DecodeErrorKind::Short { missing: (at + 2).saturating_sub(self.bytes.len()) }))
            }
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.bytes = rest;
                self.offset += N;
                Ok(*head)
            }
            None => Err(self.error(DecodeErrorKind::Short { missing: N - self.bytes.len() })),
        }
    }

    /// Reads a value.
    pub fn get<T: Wire>(&mut self) -> Result<T, DecodeError> {
        T::read(self)
    }

    /// Reads values until the end.
    pub fn all<T: Wire>(&mut self) -> Result<Vec<T>, DecodeError> {
        let mut list = Vec::new();
        while !self.is_empty() {
            list.push(T::read(self)?);
        }
        Ok(list)
    }

    /// Reads the members of a report's top-level list. Each stands alone: one that cannot be read
    /// is left out and counted. The list ends at a member whose length cannot be determined.
    fn independent<T: Wire>(&mut self) -> Vec<T> {
        let mut list = Vec::new();
        while !self.is_empty() {
            let before = self.left();
            match T::read(self) {
                Ok(member) => list.push(member),
                Err(error) => {
                    let (first, count) = self.lost.unwrap_or((error, 0));
                    self.lost = Some((first, count + 1));
                    if self.left() == before {
                        self.rest();
                    }
                }
            }
        }
        list
    }

    /// Skips the padding of a part of `length` bytes to a multiple of 8.
    ///
    /// When it is too short or not zero. In a report it may hold anything, and that of the last
    /// part may be missing.
    pub fn skip_padding(&mut self, length: usize) -> Result<(), DecodeError> {
        if self.is_tolerant() {
            self.take(to_eight(length).min(self.left()))?;
            return Ok(());
        }
        let at = *self;
        let zeros = self.take(to_eight(length))?;
        if zeros.iter().all(|b| *b == 0) { Ok(()) } else { Err(at.error(DecodeErrorKind::Padding)) }
    }

    /// Fails if bytes of an order are left; bytes left of a report are unknown additions, and are
    /// ignored.
    pub fn end_of_message(&self) -> Result<(), DecodeError> {
        if self.is_tolerant() { Ok(()) } else { self.end() }
    }

    /// Fails if anything is left.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(self.error(DecodeErrorKind::Long { extra: self.left() })) }
    }
}

/// A value with a layout in messages.
pub trait Wire: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are not one.
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Writes it.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! wire_number {
    ($($t:ty),*) => {$(
        impl Wire for $t {
            #[inline]
            fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(<$t>::from_be_bytes(r.array()?))
            }
            #[inline]
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}
wire_number!(u8, u16, u32, u64, u128);

macro_rules! wire_bytes {
    ($t:ty, $get:expr, $put:expr) => {
        impl Wire for $t {
            fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok($get(r.array()?))
            }
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&$put(self));
            }
        }
    };
}
wire_bytes!(Mac, Mac, |m: &Mac| m.0);
wire_bytes!(Dpid, |b| Dpid(u64::from_be_bytes(b)), |d: &Dpid| d.0.to_be_bytes());
wire_bytes!(Ipv4Addr, |b: [u8; 4]| Ipv4Addr::from(b), |a: &Ipv4Addr| a.octets());
wire_bytes!(Ipv6Addr, |b: [u8; 16]| Ipv6Addr::from(b), |a: &Ipv6Addr| a.octets());

/// Reserved bytes, kept as received so that a message is encoded as it was decoded. Zero in
/// messages that this side makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pad<const N: usize>(pub [u8; N]);

impl<const N: usize> Default for Pad<N> {
    fn default() -> Self {
        Pad([0; N])
    }
}

impl<const N: usize> Wire for Pad<N> {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array().map(Pad)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl<const N: usize> Serialize for Pad<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Bytes(self.0.to_vec()).serialize(s)
    }
}

/// A text in a field of `N` bytes, ended by a NUL if it is shorter. All bytes are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>(pub [u8; N]);

impl<const N: usize> Text<N> {
    /// The text, cut so that its NUL fits too.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        let len = text.len().min(N.saturating_sub(1));
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Text(bytes)
    }

    /// The bytes before the NUL, as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(N);
        String::from_utf8_lossy(&self.0[..end])
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text([0; N])
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text())
    }
}

impl<const N: usize> Wire for Text<N> {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array().map(Text)
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// Bytes that this codec does not interpret: packets, experimenters' bodies, error data. In JSON
/// they are hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0.iter().map(|b| format!("{b:02x}")).collect::<String>())
    }
}

impl Wire for Bytes {
    /// All bytes that are left.
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Bytes(r.rest().to_vec()))
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl<const N: usize> Wire for [u32; N] {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut list = [0; N];
        for value in &mut list {
            *value = r.get()?;
        }
        Ok(list)
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|v| v.write(out));
    }
}

impl<T: Wire> Wire for Box<T> {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::read(r).map(Box::new)
    }
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

/// Values until the end of the enclosing part.
impl<T: Wire> Wire for Vec<T> {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if r.is_tolerant() && !r.nested { Ok(r.independent()) } else { r.all() }
    }
    fn write(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|v| v.write(out));
    }
}

/// A struct with its fields in the order of the wire, and its reader and writer.
macro_rules! wire_struct {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $type,)*
        }
        impl $crate::wire::Wire for $name {
            #[allow(unused_variables, reason = "a struct may be empty")]
            fn read(r: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::error::DecodeError> {
                Ok($name { $($field: <$type as $crate::wire::Wire>::read(r)?,)* })
            }
            #[allow(unused_variables, reason = "a struct may be empty")]
            fn write(&self, out: &mut Vec<u8>) {
                $($crate::wire::Wire::write(&self.$field, out);)*
            }
        }
    };
}
pub(crate) use wire_struct;

/// Writes a part that starts with (or holds, at `at`) its own 16-bit length, and fills in that
/// length.
pub fn with_length(out: &mut Vec<u8>, at: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(start + at..start + at + 2) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// How many bytes bring `length` to a multiple of 8.
pub const fn to_eight(length: usize) -> usize {
    (8 - length % 8) % 8
}

/// Writes zeros up to a multiple of 8 bytes since `start`.
pub fn pad_to_eight(out: &mut Vec<u8>, start: usize) {
    let pad = to_eight(out.len() - start);
    out.resize(out.len() + pad, 0);
}
