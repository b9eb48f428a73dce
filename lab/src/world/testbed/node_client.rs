//! The coordinator's end of the way to a machine's node.

use super::clock_offset;
use super::lines;
use crate::control::messages::{Clock, LabRequest, LabResponse};
use crate::control::service::lock;
use crate::node::traffic::clock;
use crate::world::testbed::lines::{LONGEST, LineError};
use crate::world::testbed::node_protocol::{NodeRequest, NodeSetup};
use anyhow::{Context, bail};
use std::io::PipeWriter;
use std::io::{BufReader, Write};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tandem_model::text::escaped;
use tandem_testbed::ssh::{FILE, Remote, Ssh};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a node may take to end, with everything given back.
const END: Duration = Duration::from_secs(15);
/// Lines that a node has said and nobody has read: each answers a question, and the next is asked
/// after it.
const LINES: usize = 16;
/// Questions for one measurement of a clock.
const ROUNDS: usize = 10;

struct Open {
    remote: Remote,
    input: PipeWriter,
    lines: mpsc::Receiver<Result<String, LineError>>,
}

enum State {
    Open(Box<Open>),
    Closed(String),
}

/// A node that is there, or was.
pub struct NodeClient {
    machine: String,
    /// Held by the coordinator alone: when it lets go, the connection ends, with all that it has on
    /// this machine.
    ssh: Weak<Ssh>,
    guard: u32,
    node: u32,
    port_filter: String,
    state: Mutex<State>,
}

impl Open {
    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.input.write_all(text.as_bytes())?;
        self.input.write_all(b"\n")?;
        self.input.flush()
    }

    fn hear(&self, limit: Duration) -> anyhow::Result<LabResponse> {
        match self.lines.recv_timeout(limit) {
            Ok(Ok(line)) => {
                serde_json::from_str(&line).with_context(|| format!("it says \"{}\"", escaped(&line)))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(RecvTimeoutError::Timeout) => bail!("it has not answered within {limit:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("it has ended"),
        }
    }

    /// What it complained of, once it has ended.
    fn finish(self) -> String {
        drop(self.input);
        match self.remote.finish(Duration::from_secs(2)) {
            Ok(output) => output.stderr,
            Err(error) => error.to_string(),
        }
    }
}

impl NodeClient {
    /// Copies `program` to the machine, where nothing of it is left, starts a node and lets it take
    /// what it is to be.
    ///
    /// # Errors
    /// With the machine's name and what it says; it is then as it was.
    pub fn open(ssh: &Arc<Ssh>, program: &Path, take: &NodeSetup) -> anyhow::Result<NodeClient> {
        let name = &ssh.machine().name;
        let content = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        let size = content.len();
        // The program comes first on the same input; it removes its own file as soon as it runs.
        let script = format!(
            "f=$(mktemp /tmp/tandem-lab.XXXXXX) || exit 1; head -c {size} > \"$f\"; \
             if [ \"$(wc -c < \"$f\")\" -eq {size} ]; then chmod 700 \"$f\" && exec \"$f\" node --once; fi; rm -f \"$f\"; \
             echo 'only a part of the program arrived' >&2; exit 1"
        );
        let mut remote = ssh.spawn("running its node", &script)?;
        let input = remote.stdin.take().context("ssh has no input")?;
        let output = remote.stdout.take().context("ssh has no output")?;
        let (sender, lines) = mpsc::sync_channel(LINES);
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            // After an error nothing that comes can be told apart.
            while let Some(line) = lines::next(&mut output, LONGEST).transpose() {
                let is_last = line.is_err();
                if sender.send(line).is_err() || is_last {
                    return;
                }
            }
        });
        let mut open = Open { remote, input, lines };
        let first = serde_json::to_string(take)?;
        let said = open.input.write_all(&content).and_then(|()| open.say(&first));
        let heard = said.map_err(anyhow::Error::from).and_then(|()| open.hear(FILE));
        match heard {
            Ok(LabResponse::Ready { guard, node, port_filter }) => Ok(NodeClient {
                machine: name.clone(),
                ssh: Arc::downgrade(ssh),
                guard,
                node,
                port_filter,
                state: Mutex::new(State::Open(Box::new(open))),
            }),
            Ok(LabResponse::Error { why }) => {
                // With a free channel it gives back what it took.
                open.finish();
                bail!("{name}: {why}")
            }
            Ok(other) => bail!("{name}: its node says {other:?} instead of being ready"),
            Err(error) => bail!("{name}: its node does not come up: {error:#}; {}", open.finish()),
        }
    }

    /// What filters at its VMs' ports.
    pub fn port_filter(&self) -> &str {
        &self.port_filter
    }

    /// Its machine's name.
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// The way to its machine; `None` once it has ended.
    pub fn ssh(&self) -> Option<Arc<Ssh>> {
        self.ssh.upgrade()
    }

    /// The process ids, on the machine, of the guard and the node.
    pub fn processes(&self) -> (u32, u32) {
        (self.guard, self.node)
    }

    /// Why it is lost; `None` while it is there.
    pub fn lost(&self) -> Option<String> {
        match &*lock(&self.state) {
            State::Open(_) => None,
            State::Closed(why) => Some(why.clone()),
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// With what the node says, or why it is lost.
    pub fn ask(&self, order: &NodeRequest) -> anyhow::Result<LabResponse> {
        let answer = self.talk(|open| {
            open.say(&serde_json::to_string(order)?)?;
            open.hear(ANSWER)
        })?;
        match answer {
            LabResponse::Error { why } => bail!("{}: {why}", self.machine()),
            answer => Ok(answer),
        }
    }

    /// How far its machine's clock is ahead of ours.
    ///
    /// # Errors
    /// Why it is lost.
    pub fn clock(&self) -> anyhow::Result<Clock> {
        let readings = self.talk(|open| {
            let ask = serde_json::to_string(&NodeRequest::Now)?;
            (0..ROUNDS)
                .map(|_| {
                    let sent = clock();
                    open.say(&ask)?;
                    let LabResponse::Now { ns } = open.hear(ANSWER)? else {
                        bail!("it does not say the time")
                    };
                    Ok((sent.cast_signed(), ns.cast_signed(), clock().cast_signed()))
                })
                .collect::<anyhow::Result<Vec<_>>>()
        })?;
        clock_offset::best(self.machine(), &readings).context("the clock was not read")
    }

    fn talk<T>(&self, work: impl FnOnce(&mut Open) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut state = lock(&self.state);
        let failed = match &mut *state {
            State::Open(open) => match work(open) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            },
            State::Closed(why) => bail!("{why}"),
        };
        // An answer that did not come may come to the next question: the channel is of no use any
        // more.
        let mut why = format!("{}: its node is lost: {failed:#}", self.machine());
        if let State::Open(open) = std::mem::replace(&mut *state, State::Closed(String::new())) {
            let said = open.finish();
            why = if said.is_empty() { why } else { format!("{why} ({said})") };
        }
        *state = State::Closed(why.clone());
        bail!("{why}")
    }

    /// Ends the node and waits until everything is given back.
    ///
    /// # Errors
    /// With what was not given back. A node that was lost has given back by itself.
    pub fn end(&self) -> anyhow::Result<()> {
        let mut state = lock(&self.state);
        let before = std::mem::replace(&mut *state, State::Closed("it was ended".into()));
        let State::Open(mut open) = before else { return Ok(()) };
        let machine = self.machine();
        open.say(&serde_json::to_string(&NodeRequest::Ask { ask: LabRequest::Down })?)
            .with_context(|| format!("{machine}: its node is lost"))?;
        loop {
            match open.hear(END).with_context(|| format!("{machine}: its node does not end"))? {
                LabResponse::Ending => {}
                LabResponse::Returned { .. } => break,
                LabResponse::Error { why } => bail!("{machine}: {why}"),
                other => bail!("{machine}: its node says {other:?} instead of ending"),
            }
        }
        open.finish();
        Ok(())
    }
}
