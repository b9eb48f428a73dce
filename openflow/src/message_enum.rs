//! One list of types makes a version's `Message`: its kinds, reader and writer.

/// Makes the enum of a version's messages and its codec. Each row: name, type number, body type or
/// nothing.
macro_rules! messages {
    ($(#[$doc:meta])* version $version:expr; $($(#[$vdoc:meta])* $name:ident = $kind:literal $(($body:ty))?,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Message {
            $($(#[$vdoc])* $name $(($body))?,)*
        }

        impl Message {
            /// Its type number.
            pub fn kind(&self) -> u8 {
                match self {
                    $($crate::message_enum::pattern!($name $(, $body)?) => $kind,)*
                }
            }

            /// Its name in Rust, e.g. `FlowMod`.
            pub fn name(&self) -> &'static str {
                match self {
                    $($crate::message_enum::pattern!($name $(, $body)?) => stringify!($name),)*
                }
            }

            /// Reads one whole message, header included.
            ///
            /// # Errors
            /// When the bytes are no valid message of this version.
            pub fn decode(message: &[u8]) -> Result<(u32, Message), $crate::error::DecodeError> {
                let read = Message::read_as(message, $crate::wire::Strictness::Orders)?;
                Ok((read.xid, read.message))
            }

            /// Reads one whole message that a switch reports, header included: see
            /// [`Strictness::Reports`]($crate::wire::Strictness::Reports).
            ///
            /// # Errors
            /// When nothing of it is understood.
            pub fn decode_report(
                message: &[u8],
            ) -> Result<$crate::Report<Message>, $crate::error::DecodeError> {
                Message::read_as(message, $crate::wire::Strictness::Reports)
            }

            fn read_as(
                message: &[u8],
                strictness: $crate::wire::Strictness,
            ) -> Result<$crate::Report<Message>, $crate::error::DecodeError> {
                let (header, mut r) = $crate::header::split_as(message, strictness)?;
                if header.version != $version {
                    return Err($crate::header::wrong_version(&r, header.version));
                }
                let value = match header.kind {
                    $($kind => {
                        #[allow(unused_mut, reason = "messages without a body read nothing")]
                        let mut r2 = r.part(stringify!($name), $crate::error::OfErrorCode::BAD_LEN);
                        let value = $crate::message_enum::read!(r2, $name $(, $body)?);
                        r = r2;
                        value
                    })*
                    kind => {
                        let problem = $crate::error::DecodeErrorKind::Unknown { value: kind.into() };
                        return Err(r.blamed(problem, $crate::error::OfErrorCode::BAD_TYPE));
                    }
                };
                r.end_of_message()?;
                Ok($crate::Report { xid: header.xid, message: value, lost: r.lost() })
            }

            /// Appends the message to `out`.
            ///
            /// # Errors
            /// When it is longer than 65535 bytes; `out` is then as it was.
            pub fn encode(&self, xid: u32, out: &mut Vec<u8>) -> Result<(), $crate::error::EncodeError> {
                $crate::header::write(out, $version, self.kind(), xid, |out| match self {
                    $($crate::message_enum::bind!(body, $name $(, $body)?) => $crate::message_enum::put!(out, body $(, $body)?),)*
                })
            }
        }
    };
}

macro_rules! pattern {
    ($name:ident) => {
        Message::$name
    };
    ($name:ident, $body:ty) => {
        Message::$name(_)
    };
}

macro_rules! bind {
    ($b:ident, $name:ident) => {
        Message::$name
    };
    ($b:ident, $name:ident, $body:ty) => {
        Message::$name($b)
    };
}

macro_rules! put {
    ($out:ident, $b:ident) => {
        ()
    };
    ($out:ident, $b:ident, $body:ty) => {
        $crate::wire::Wire::write($b, $out)
    };
}

macro_rules! read {
    ($r:ident, $name:ident) => {
        Message::$name
    };
    ($r:ident, $name:ident, $body:ty) => {
        Message::$name($crate::wire::Reader::get(&mut $r)?)
    };
}

pub(crate) use {bind, messages, pattern, put, read};
