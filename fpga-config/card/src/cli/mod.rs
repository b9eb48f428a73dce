//! Executes the commands.

pub(crate) mod args;
mod flows;
mod inspect;
mod load;
mod registers;
mod traffic;

use anyhow::{Context, bail};
use args::{Cli, Command};
use serde::Serialize;
use std::io::{self, Write};
use std::process::ExitCode;
use tandem_fpga_card::Card;
use tandem_fpga_card::cosim::{Server, protocol};
use tandem_fpga_card::lock::{Lock, LockError};
use tandem_fpga_card::memory_card::MemoryCard;
use tandem_fpga_config::codec::{PortMap, Transport, listing};
use tandem_fpga_config::profile::{FlowMap, Profile, builtin, probe};

/// Executes a command.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::List => inspect::list(cli)?,
        Command::Profiles => inspect::profiles(cli)?,
        Command::Info => inspect::info(cli)?,
        Command::Selftest => return inspect::selftest(cli),
        Command::Load { file } => load::load(cli, file)?,
        Command::Reg(reg) => registers::reg(cli, reg)?,
        Command::Counters { part, watch, all, clearing } => {
            registers::counters(cli, part, *watch, *all, *clearing)?;
        }
        Command::Limit { port, rate } => registers::limit(cli, *port, rate.as_deref())?,
        Command::Replay(ask) => traffic::replay(cli, ask)?,
        Command::Capture(ask) => traffic::capture(cli, ask)?,
        Command::Flows => flows::flows(cli)?,
        Command::Compile { flow, exact, row } => {
            let (ports, map) = (PortMap::one_card(true), flow_map(&loaded(cli)?)?);
            let writes = if *exact {
                listing::compile_exact(flow, &ports, Transport::Literal, &map)?
            } else {
                listing::compile(flow, &ports, Transport::Literal, &map, *row)?
            };
            io::stdout().write_all(writes.as_bytes())?;
        }
        Command::Decode { file } => {
            let text = text(file)?;
            let flows = listing::decode(&text, &flow_map(&loaded(cli)?)?, &PortMap::one_card(true))?;
            io::stdout().write_all(flows.as_bytes())?;
        }
        Command::Packet { queue, frame } => {
            let frame =
                protocol::bytes(frame).context("the frame is no row of pairs of hexadecimal digits")?;
            let mut card = cli.card.open(&loaded(cli)?, cli.timeout)?;
            let mut out = io::stdout().lock();
            for (queue, frame) in card.inject(*queue, &frame)? {
                writeln!(out, "{}", protocol::Answer::Packet(queue, frame))?;
            }
        }
        Command::Model { listen, unloaded, faults, cable } => {
            let mut card = MemoryCard::new(loaded(cli)?);
            if *unloaded {
                card.model = card.model.unloaded();
            }
            if *faults {
                card = card.with_faults();
            }
            if !cable.is_empty() && card.model.profile().generator.is_none() {
                bail!("--cable is for the packet generator: --profile packet-generator");
            }
            for (one, other) in cable {
                card.model.cable(*one, *other);
            }
            let server =
                Server::bind(listen).with_context(|| format!("listening at {}", listen.display()))?;
            println!(
                "a card in memory with {} answers at cosim:{} until Ctrl-C",
                card.model.profile().name,
                listen.display()
            );
            io::stdout().flush()?;
            remove_when_stopped(listen)?;
            server.run(card)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A file's text; standard input's for `-`.
fn text(file: &std::path::Path) -> anyhow::Result<String> {
    let text =
        if file.as_os_str() == "-" { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(file) };
    text.with_context(|| format!("reading {}", file.display()))
}

/// Removes the socket on Ctrl-C or SIGTERM.
fn remove_when_stopped(socket: &std::path::Path) -> anyhow::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut stop = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        stop.add(signal);
    }
    // Before other threads start, which inherit the mask: only this one takes the signal.
    stop.thread_block()?;
    let socket = socket.to_owned();
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let signal = stop.wait();
        let _ = std::fs::remove_file(&socket);
        std::process::exit(signal.map_or(1, |s| 128 + s as i32));
    })?;
    Ok(())
}

/// The profile of the command line, or that of the OpenFlow switch.
fn loaded(cli: &Cli) -> anyhow::Result<Profile> {
    Ok(given(cli)?.map_or_else(|| builtin::named("openflow-switch"), Ok)?)
}

/// The profile of the command line: by name, or by path.
fn given(cli: &Cli) -> anyhow::Result<Option<Profile>> {
    let Some(name) = &cli.profile else {
        return Ok(None);
    };
    if !name.contains(['/', '.']) {
        return Ok(Some(builtin::named(name)?));
    }
    let text = std::fs::read_to_string(name).with_context(|| format!("reading the profile {name}"))?;
    Ok(Some(Profile::parse(name, &text)?))
}

/// A card with its profile, and the lock for writing to it.
struct Opened {
    card: Box<dyn Card + Send>,
    profile: Profile,
    lock: Option<Lock>,
}

impl Opened {
    /// Opens it for reading: writes only to probe, if no other process has the card.
    fn to_read(cli: &Cli) -> anyhow::Result<Opened> {
        Opened::new(cli, false)
    }

    /// Opens it for writing: no other process may have the card.
    fn to_write(cli: &Cli) -> anyhow::Result<Opened> {
        Opened::new(cli, true)
    }

    fn new(cli: &Cli, writing: bool) -> anyhow::Result<Opened> {
        let given = given(cli)?;
        let any = given.clone().map_or_else(|| builtin::named("openflow-switch"), Ok)?;
        let mut card = cli.card.open(&any, cli.timeout)?;
        let probing = given.is_none();
        let lock = match cli.card.lock("tandem-fpga") {
            Ok(lock) => lock,
            Err(error @ LockError::Held { .. }) if !writing && probing => {
                let profile = by_name(&mut *card).context(error)?;
                return Ok(Opened { card, profile, lock: None });
            }
            Err(_) if !writing => None,
            Err(error) => return Err(error.into()),
        };
        let profile = match given {
            Some(profile) => profile,
            None => probed(&mut *card)?,
        };
        // A reader releases the lock once it knows the profile.
        let lock = lock.filter(|_| writing);
        Ok(Opened { card, profile, lock })
    }

    fn flow_map(&self) -> anyhow::Result<FlowMap> {
        flow_map(&self.profile)
    }
}

fn flow_map(profile: &Profile) -> anyhow::Result<FlowMap> {
    profile.flow_table.with_context(|| {
        format!("the bitfile {} has no flow table; `tandem-fpga profiles` says which has", profile.name)
    })
}

/// The only profile that fits a card.
fn probed(card: &mut dyn Card) -> anyhow::Result<Profile> {
    let mut all = builtin::all()?;
    let found = probe::probe(card, &all)?;
    match found.fits[..] {
        [one] => Ok(all.swap_remove(one)),
        [] => match found.device_id {
            Some(id) => bail!(
                "the loaded bitfile calls itself {id}; no profile here is for it: give --profile with a file of your own"
            ),
            None => bail!(
                "nothing answers where bitfiles say what they are (0x0400000), nor at the flow tables that are known: load a bitfile, or give --profile"
            ),
        },
        _ => {
            let names: Vec<&str> =
                found.fits.iter().filter_map(|i| all.get(*i)).map(|p| p.name.as_str()).collect();
            bail!("the card answers to {}: give one of them by --profile", names.join(" and to "))
        }
    }
}

/// The first profile whose directory the card names: determined without writing.
fn by_name(card: &mut dyn Card) -> anyhow::Result<Profile> {
    let id = tandem_fpga_config::device_id::DeviceId::read(card)?;
    let named = |p: &Profile| id.as_ref().zip(p.directory.as_ref()).is_some_and(|(id, d)| id.directory == *d);
    builtin::all()?
        .into_iter()
        .find(named)
        .context("which bitfile it has cannot be probed meanwhile; give --profile")
}

fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Whether the reader of this program's output has gone, as in `| head`.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}
