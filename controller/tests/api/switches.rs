//! Every OpenFlow switch of a site, in memory: each speaks to the controller over its Unix socket
//! and confirms whatever it is sent. They forward nothing; what the API is asked needs rules that
//! are confirmed, not packets.

use crate::server::LIMIT;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tandem_controller::clock::now;
use tandem_model::{NodeId, Site};
use tandem_openflow::framing;
use tandem_openflow::session::SessionError;
use tandem_openflow::switch::{Config, ConnId, Port, Sink, Switch};

/// What a switch has to say to its controller.
#[derive(Default)]
struct Outbox(Vec<u8>);

impl Sink for Outbox {
    fn transmit(&mut self, _: u32, _: u32, _: &[u8]) {}
    fn send(&mut self, _: ConnId, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn close(&mut self, _: ConnId, _: &SessionError) {}
    fn set_port(&mut self, _: u32, _: bool) {}
}

/// The connections of a site's switches; they end with this.
pub(crate) struct Switches(Vec<UnixStream>);

impl Switches {
    /// Connects all of them to the controller that listens at `socket`.
    pub(crate) fn connect(site: &Site, socket: &Path) -> Switches {
        let topology = &site.topology;
        let mut streams = Vec::new();
        for (number, declared) in (0u32..).zip(&topology.switches).filter(|(_, s)| !s.legacy) {
            let mut switch = Switch::new(Config { dpid: declared.dpid, buffers: 0, ..Config::default() });
            let mut outbox = Outbox::default();
            let ends = topology.links.iter().flat_map(|link| [link.a, link.b]);
            for end in ends.filter(|end| end.node == NodeId::Switch(tandem_model::SwitchId(number))) {
                switch.port(port(number, end.port.0), now(), &mut outbox);
            }
            let stream = UnixStream::connect(socket).expect("the controller listens");
            stream.set_read_timeout(Some(LIMIT)).expect("a socket");
            streams.push(stream.try_clone().expect("a descriptor"));
            std::thread::spawn(move || converse(switch, stream));
        }
        Switches(streams)
    }
}

impl Drop for Switches {
    fn drop(&mut self) {
        for stream in &self.0 {
            // The controller may have closed it first.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn port(switch: u32, number: u32) -> Port {
    Port {
        number,
        name: format!("p{number}"),
        mac: [2, 1, 0, switch as u8, 0, number as u8],
        up: true,
        speed: Some(1_000_000_000),
        config: 0,
        queues: Vec::new(),
    }
}

/// Answers one message after the other until the connection ends.
fn converse(mut switch: Switch, mut stream: UnixStream) {
    let mut outbox = Outbox::default();
    let connection = switch.connected(now(), &mut outbox);
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
    loop {
        while let Ok(Some((message, rest))) = framing::next(&bytes) {
            let _ = switch.on_message(connection, message, now(), &mut outbox);
            bytes = rest.to_vec();
        }
        if stream.write_all(&std::mem::take(&mut outbox.0)).is_err() {
            return;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                switch.on_deadline(now(), &mut outbox);
            }
            Err(_) => return,
        }
    }
}
