//! A card behind a co-simulation socket that a test controls: it counts writes, dies, hangs, loses
//! its rows, refuses packets.

use crate::host::now;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tandem_fpga_card::cosim::protocol::{Answer, Request};
use tandem_fpga_card::memory_card::MemoryCard;
use tandem_fpga_config::codec::entry::Row;
use tandem_fpga_config::profile::{FlowMap, builtin};
use tandem_fpga_config::registers::Registers;
use tandem_model::Time;

/// The card behind the socket.
pub(crate) struct Bench {
    pub card: MemoryCard,
    pub map: FlowMap,
    /// Committed rows, and words written into the exact table.
    pub commits: usize,
    pub exact: usize,
    /// It answers no request.
    pub hangs: bool,
    /// It supports registers only.
    pub no_packets: bool,
    /// Since this time its clock runs at a tenth of its speed.
    pub slow: Option<Time>,
    streams: Vec<UnixStream>,
    open: bool,
}

/// The thread that serves the card, and its controls.
pub(crate) struct Peer {
    path: PathBuf,
    bench: Arc<Mutex<Bench>>,
}

impl Peer {
    pub(crate) fn listen(path: &Path) -> Peer {
        let profile = builtin::named("openflow-switch").expect("a profile");
        let map = profile.flow_table.expect("a flow table");
        let bench = Bench {
            card: MemoryCard::new(profile),
            map,
            commits: 0,
            exact: 0,
            hangs: false,
            no_packets: false,
            slow: None,
            streams: Vec::new(),
            open: true,
        };
        let peer = Peer { path: path.to_owned(), bench: Arc::new(Mutex::new(bench)) };
        peer.serve();
        peer
    }

    fn serve(&self) {
        let listener = UnixListener::bind(&self.path).expect("a socket");
        let bench = self.bench.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let mut held = bench.lock().expect("the bench");
                if !held.open {
                    return;
                }
                held.streams.push(stream.try_clone().expect("a descriptor"));
                drop(held);
                let bench = bench.clone();
                std::thread::spawn(move || answer(&stream, &bench));
            }
        });
    }

    pub(crate) fn bench(&self) -> MutexGuard<'_, Bench> {
        self.bench.lock().expect("the bench")
    }

    /// Ends it and its socket.
    pub(crate) fn die(&self) {
        let mut bench = self.bench();
        bench.open = false;
        bench.streams.drain(..).for_each(|s| drop(s.shutdown(Shutdown::Both)));
        drop(bench);
        // Wakes the accepting thread.
        let _ = UnixStream::connect(&self.path);
        std::fs::remove_file(&self.path).expect("the socket");
    }

    /// Starts it again as a card that was reset.
    pub(crate) fn come_back(&self) {
        let mut bench = self.bench();
        bench.card = MemoryCard::new(builtin::named("openflow-switch").expect("a profile"));
        (bench.open, bench.hangs, bench.commits, bench.exact) = (true, false, 0, 0);
        drop(bench);
        self.serve();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.bench().open {
            self.die();
        }
    }
}

impl Bench {
    fn time(&self) -> Time {
        let now = now();
        self.slow.map_or(now, |since| since + now.since(since) / 10)
    }

    pub(crate) fn row(&mut self, at: usize) -> Row {
        Row::read(&self.map, at as u32, &mut self.card).expect("a row")
    }

    pub(crate) fn rows(&mut self) -> Vec<Row> {
        (0..self.map.rows.into()).map(|at| self.row(at)).collect()
    }

    pub(crate) fn used(&mut self) -> usize {
        self.rows().iter().filter(|r| !r.is_deleted()).count()
    }

    /// Packets that a row has counted and that were not read.
    pub(crate) fn hits(&mut self, at: usize) -> u32 {
        self.card.read32(self.map.packets_hit + 4 * at as u32).expect("a counter")
    }

    /// Clears the tables, as its watchdog does.
    pub(crate) fn flush(&mut self) {
        for at in 0..self.map.rows.into() {
            Row::deleted().commit(&self.map, at, &mut self.card).expect("a row");
        }
    }
}

fn answer(stream: &UnixStream, bench: &Mutex<Bench>) {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let mut bench = bench.lock().expect("the bench");
        if bench.hangs {
            continue;
        }
        let time = bench.time();
        bench.card.model.set_time(time);
        let answers = match Request::parse(&line).expect("a request") {
            // The test's own registers come first: the clock of the card in memory is this
            // process's.
            Request::Read(at) => vec![Answer::Value(bench.card.model.read32(at).expect("a register"))],
            Request::Write(at, value) => {
                let map = bench.map;
                bench.commits += usize::from(at == map.write_row);
                let exact = map.exact..map.exact + map.exact_rows * map.exact_stride;
                bench.exact += usize::from(exact.contains(&at));
                bench.card.model.write32(at, value).expect("a register");
                vec![Answer::Done]
            }
            Request::Queue(..) | Request::Go => vec![Answer::Refused("there are no bursts".into())],
            Request::Packet(..) if bench.no_packets => vec![Answer::Refused("there are no packets".into())],
            Request::Packet(queue, frame) => {
                let sent = bench.card.model.packet(queue, &frame, time);
                sent.into_iter().map(|(q, f)| Answer::Packet(q, f)).chain([Answer::Done]).collect()
            }
        };
        drop(bench);
        let text: String = answers.iter().map(|a| format!("{a}\n")).collect();
        if writer.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}
