//! Connections to a lab's sockets: who may attach, who is turned away, and the control socket's
//! questions and answers.

use super::{LabBackend, Orders, PAUSE};
use crate::control::admission::{Admission, goodbye};
use crate::control::messages::{LabRequest, LabResponse};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tandem_agent_protocol::hypervisor as wire;

/// Who is turned away is told why, so many at once.
const FAREWELLS: usize = 16;
/// One takes so long at most.
const FAREWELL: Duration = Duration::from_secs(1);

/// Tells why, and stays until it was read: one who still writes when the socket is closed hears of
/// a broken pipe only.
async fn say_goodbye(mut stream: tokio::net::UnixStream, why: &str) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(&goodbye(why)).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// Takes in who may attach, and tells others why not.
pub(super) async fn admit(
    listener: tokio::net::UnixListener,
    admission: Arc<Admission>,
    sender: tokio::sync::mpsc::Sender<std::io::Result<tokio::net::UnixStream>>,
) {
    let farewells = Arc::new(tokio::sync::Semaphore::new(FAREWELLS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                admission.lines.warn(|| format!("a controller is not taken in: {error}"));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match admission.check(&stream) {
            Ok(()) => {
                if sender.send(Ok(stream)).await.is_err() {
                    return;
                }
            }
            // Beyond so many at once nobody is told.
            Err(why) => {
                if let Ok(place) = farewells.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(FAREWELL, say_goodbye(stream, &why)).await;
                        drop(place);
                    });
                }
            }
        }
    }
}

pub(super) fn converse<W: LabBackend>(orders: &Arc<Orders<W>>, stream: UnixStream) -> anyhow::Result<()> {
    let world = &orders.world;
    let mut writer = stream.try_clone()?;
    let mut held = false;
    for line in BufReader::new(stream.take(1 << 20)).lines() {
        // Whoever held the lab may have been killed in the middle of a line.
        let Ok(line) = line else { break };
        let answer = match serde_json::from_str::<LabRequest>(&line) {
            Ok(LabRequest::Down) => LabResponse::Ending,
            Ok(LabRequest::Hold) => {
                held = true;
                LabResponse::Done
            }
            Ok(LabRequest::MoveVm { vm, to, port, rate, downtime_ns, rounds }) => {
                let order = wire::Migrate {
                    migration: 0,
                    vm,
                    from: 0,
                    to,
                    uplink_port: port,
                    live: true,
                    rate_bit_per_s: rate,
                    downtime_ns,
                    rounds,
                    resources: None,
                };
                match orders.move_by_hand(order) {
                    Ok(downtime_ns) => LabResponse::Moved { downtime_ns },
                    Err(error) => LabResponse::Error { why: format!("{error:#}") },
                }
            }
            Ok(LabRequest::Find { node }) => {
                // A node of the site first, then a VM by its number, then one by its name.
                let find = |node: String| world.answer(&LabRequest::Find { node });
                let named = || orders.kept.named(&node).map(|vm| find(format!("vm{vm}")));
                let found = find(node.clone()).or_else(|error| named().unwrap_or(Err(error)));
                found.unwrap_or_else(|error| LabResponse::Error { why: format!("{error:#}") })
            }
            Ok(ask) => {
                world.answer(&ask).unwrap_or_else(|error| LabResponse::Error { why: format!("{error:#}") })
            }
            Err(error) => LabResponse::Error { why: format!("not understood: {error}") },
        };
        writeln!(writer, "{}", serde_json::to_string(&answer)?)?;
        if matches!(answer, LabResponse::Ending) {
            writer.flush()?;
            world.end();
            std::process::exit(0);
        }
    }
    if held {
        world.end();
        std::process::exit(0);
    }
    Ok(())
}
