//! One raw OpenFlow message on standard input, as JSON on standard output: `decode`.
//! `decode --reencode` prints it as it is written again, in hexadecimal digits.
#![allow(clippy::disallowed_methods, reason = "an example has input and output")]

use std::io::{Read, Write};
use std::process::ExitCode;
use tandem_openflow::{AnyMessage, header};

const HELP: &str = "\
Decodes one OpenFlow 1.0 or 1.3 message.

Usage: decode [--reencode] < MESSAGE

  --reencode  decode, encode, and print that in hexadecimal digits
  --help      print this

Prints JSON: header and every field of the body. Exits with 1 if the message is bad, with 2 if the arguments are.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let reencode = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--reencode"] => true,
        ["--help" | "-h"] => {
            let _ = std::io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("decode: unknown arguments {arguments:?}; see decode --help");
            return ExitCode::from(2);
        }
    };
    match run(reencode) {
        Ok(text) => match writeln!(std::io::stdout(), "{text}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("decode: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(reencode: bool) -> Result<String, Box<dyn std::error::Error>> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let (head, _) = header::split(&bytes)?;
    let (xid, message) = AnyMessage::decode(&bytes)?;
    if reencode {
        let mut out = Vec::new();
        message.encode(xid, &mut out)?;
        return Ok(out.iter().map(|b| format!("{b:02x}")).collect());
    }
    let body = match &message {
        AnyMessage::V10(m) => serde_json::to_value(m)?,
        AnyMessage::V13(m) => serde_json::to_value(m)?,
    };
    let json = serde_json::json!({
        "version": head.version,
        "type": message.name(),
        "type_number": head.kind,
        "length": head.length,
        "xid": xid,
        "body": body,
    });
    Ok(serde_json::to_string_pretty(&json)?)
}
