//! OpenFlow 1.3 with one switch over its management socket, as a controller speaks it: messages, a
//! barrier, and what was refused.

use anyhow::{Context, ensure};
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tandem_openflow::of13::flow::{ALL_TABLES, NO_BUFFER, command};
use tandem_openflow::of13::{Action, FlowMod, Instruction, Match, Message};
use tandem_openflow::wire::Pad;
use tandem_openflow::{framing, header};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);
/// OFPP_ANY, OFPG_ANY.
const ANY: u32 = u32::MAX;

/// What a switch refused: OFPET type and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: u16,
    pub(crate) code: u16,
}

/// A connection to one switch.
pub(crate) struct OpenFlowClient {
    stream: UnixStream,
    input: Vec<u8>,
    xid: u32,
}

/// A flow of table 0 that stays until it is deleted.
pub(crate) fn add(cookie: u64, priority: u16, matching: Match, instructions: Vec<Instruction>) -> Message {
    Message::FlowMod(FlowMod {
        cookie,
        cookie_mask: 0,
        table_id: 0,
        command: command::ADD,
        idle_timeout: 0,
        hard_timeout: 0,
        priority,
        buffer_id: NO_BUFFER,
        out_port: ANY,
        out_group: ANY,
        flags: 0,
        pad: Pad::default(),
        matching,
        instructions,
    })
}

/// Deletes all flows with a cookie.
pub(crate) fn delete(cookie: u64) -> Message {
    let mut message = add(cookie, 0, Match::any(), Vec::new());
    if let Message::FlowMod(flow) = &mut message {
        flow.cookie_mask = u64::MAX;
        flow.table_id = ALL_TABLES;
        flow.command = command::DELETE;
    }
    message
}

/// Actions that are carried out at once.
pub(crate) fn apply(actions: Vec<Action>) -> Vec<Instruction> {
    vec![Instruction::ApplyActions(Pad::default(), actions)]
}

impl OpenFlowClient {
    /// Waits for the socket.
    ///
    /// # Errors
    /// When nobody listens within half a minute.
    pub(crate) fn connect(socket: &Path) -> anyhow::Result<OpenFlowClient> {
        let start = Instant::now();
        let mut stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if start.elapsed() > LIMIT => {
                    return Err(error).with_context(|| format!("connecting to {}", socket.display()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&[header::V13, 0, 0, 8, 0, 0, 0, 1])?;
        Ok(OpenFlowClient { stream, input: Vec::new(), xid: 1 })
    }

    /// Sends messages and a barrier, and waits for its reply: then all are carried out or refused.
    /// What was refused.
    ///
    /// # Errors
    /// When the switch does not answer, or answers no OpenFlow.
    pub(crate) fn execute(&mut self, messages: &[Message]) -> anyhow::Result<Vec<Refusal>> {
        let mut out = Vec::new();
        for message in messages {
            self.xid += 1;
            message.encode(self.xid, &mut out)?;
        }
        self.xid += 1;
        Message::BarrierRequest.encode(self.xid, &mut out)?;
        self.stream.write_all(&out)?;
        let (mut refused, mut piece) = (Vec::new(), [0u8; 4096]);
        loop {
            while let Some((message, rest)) = framing::next(&self.input)? {
                let message = message.to_vec();
                self.input = rest.to_vec();
                match Message::decode(&message)? {
                    (_, Message::Error(e)) => refused.push(Refusal { kind: e.kind, code: e.code }),
                    (xid, Message::BarrierReply) if xid == self.xid => return Ok(refused),
                    (xid, Message::EchoRequest(body)) => {
                        let mut reply = Vec::new();
                        Message::EchoReply(body).encode(xid, &mut reply)?;
                        self.stream.write_all(&reply)?;
                    }
                    _ => {}
                }
            }
            let got = self.stream.read(&mut piece).context("waiting for the switch's barrier reply")?;
            ensure!(got > 0, "the switch has closed the connection");
            self.input.extend_from_slice(&piece[..got]);
        }
    }

    /// The same where nothing may be refused.
    ///
    /// # Errors
    /// With what was refused, too.
    pub(crate) fn must(&mut self, messages: &[Message]) -> anyhow::Result<()> {
        let refused = self.execute(messages)?;
        ensure!(refused.is_empty(), "the switch refuses a flow: {refused:?}");
        Ok(())
    }
}
