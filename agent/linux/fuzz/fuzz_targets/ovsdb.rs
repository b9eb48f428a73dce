//! A stream is cut into the same messages however it arrives, each from its first brace to its
//! last. Whatever a server answers, a client's whole session (monitor, actual and wanted bridges,
//! interfaces) ends with a result or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tandem_linux::ovsdb::framing::{FrameError, Framer};
use tandem_linux::ovsdb::{Adopt, Comparison, Ovsdb, WantedBridge, WantedPort, Watch};

/// The capacity of a socket's buffer: the replies are written before the requests.
const BUFFER: usize = 64 << 10;

fn cut(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut framer, mut all) = (Framer::new(4096), Vec::new());
    for bytes in stream.chunks(piece.max(1)) {
        framer.push(bytes);
        loop {
            match framer.next_message() {
                Ok(Some(message)) => all.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

/// A connection whose server has sent `said` and nothing more. A result without `id` gets the ids
/// of the client's requests, one after the other.
fn server(said: &[u8]) -> Option<(Ovsdb, UnixStream)> {
    let (ours, mut theirs) = UnixStream::pair().ok()?;
    let mut out = Vec::new();
    for (n, line) in said.split(|b| *b == b'\n').enumerate() {
        if let Some(result) = line.strip_prefix(b"=") {
            out.extend_from_slice(format!("{{\"id\":{},\"error\":null,\"result\":", n + 1).as_bytes());
            out.extend_from_slice(result);
            out.push(b'}');
        } else {
            out.extend_from_slice(line);
        }
    }
    theirs.write_all(out.get(..BUFFER).unwrap_or(&out)).ok()?;
    theirs.shutdown(std::net::Shutdown::Write).ok()?;
    Some((Ovsdb::on(ours).ok()?, theirs))
}

fn wanted() -> Vec<WantedBridge> {
    let port = |name: &str, number| WantedPort { name: name.into(), number, takes_queueing: number % 2 == 1 };
    vec![WantedBridge {
        name: "br0".into(),
        datapath_id: 1,
        datapath_type: "system".into(),
        protocols: vec!["OpenFlow13".into()],
        controllers: vec!["tcp:10.0.0.1:6653".into()],
        secure: true,
        ports: vec![port("eth1", 1), port("eth2", 2)],
    }]
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, stream) = input;
    let at_once = cut(stream, stream.len());
    assert_eq!(cut(stream, piece.into()), at_once);
    assert!(at_once.0.iter().all(|m| m.starts_with(b"{") && matches!(m.last(), Some(b'}' | b']'))));
    let limit = Duration::from_millis(1);
    match piece % 4 {
        0 => {
            let Some((mut db, _server)) = server(stream) else { return };
            let watches = [
                Watch::new("Interface", ["name", "ofport", "statistics"]),
                Watch::new("Bridge", ["name", "ports"]).when("name", Comparison::Equal, "br0"),
            ];
            let Ok(mut monitor) = db.monitor(&watches) else { return };
            // At most as many messages as bytes, and the end.
            for _ in 0..=stream.len() {
                match monitor.next(limit) {
                    Ok(Some(update)) => drop(update.change.row().text("name").map(str::len)),
                    Ok(None) | Err(_) => break,
                }
            }
            assert!(monitor.rows().len() <= stream.len());
        }
        1 => {
            let Some((mut db, _server)) = server(stream) else { return };
            let _ = db.sync_bridges("tandem", &wanted(), &[], Adopt::EvenWithGap, limit);
        }
        2 => {
            let Some((mut db, _server)) = server(stream) else { return };
            let _ = db.release("tandem", limit);
        }
        _ => {
            let Some((mut db, _server)) = server(stream) else { return };
            let _ = db.read_bridges();
            let _ = db.interfaces();
            let _ = db.about();
        }
    }
});
