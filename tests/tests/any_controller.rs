//! A lab under a controller of somebody else: `--controller tcp:ADDRESS:PORT` leads out of the lab's
//! namespace, on Tandem's own engine and on Mininet.

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tandem_tests::foreign_controllers::Tools;
use tandem_tests::{DataCentre, can_emulate, wait};

/// Three switches in a line, and no loop: these controllers flood.
const SITE: &str = "name = \"any\"\n[topology]\nshape = \"linear\"\nswitches = 3\nservers_per_switch = 1\ngateways = 1\n\
                    [bandwidth]\nedge = \"20 Mbit/s\"\n";

/// A controller that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn up(port: u16, engine: &'static str) -> Result<DataCentre> {
    let mut dc = DataCentre::prepare(SITE)?;
    dc.engine = Some(engine);
    dc.controller_at = Some(format!("tcp:127.0.0.1:{port}"));
    dc.lab_up()?;
    Ok(dc)
}

fn all_answer(dc: &DataCentre) -> Result<()> {
    wait("everybody reaches everybody", || {
        let pings = dc.lab(&["ping-all", "--name", &dc.name])?;
        Ok(pings.contains(" 0.0% loss").then_some(()))
    })
}

/// The lab is there first, and says that nobody answers; the controller comes, and drives it; then
/// another lab, on the other engine, is driven by the same controller.
fn drives_a_lab(start: impl Fn(&Tools, &DataCentre, u16) -> Result<Command>) -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    let Some(tools) = Tools::if_installed()? else { return Ok(()) };
    let port = free_port()?;
    let dc = up(port, "native")?;
    let status = || dc.lab(&["status", "--name", &dc.name]);
    let said = wait("the lab says that nobody answers", || {
        Ok(Some(status()?).filter(|s| s.contains("no controller answers")))
    })?;
    ensure!(said.contains(&format!("tcp:127.0.0.1:{port}")) && said.contains("refused"), "{said}");
    let log = std::fs::File::create(dc.path("controller.log"))?;
    let mut command = start(&tools, &dc, port)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let running = Running(command.spawn().context("starting the controller")?);
    let log = || std::fs::read_to_string(dc.path("controller.log")).unwrap_or_default();
    all_answer(&dc).with_context(|| format!("native; {}", log()))?;
    let said = status()?;
    ensure!(!said.contains("no controller answers"), "{said}");
    dc.lab(&["down", "--name", &dc.name])?;
    if !Path::new("/usr/lib/python3/dist-packages/mininet").is_dir() {
        ensure!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: mininet");
        eprintln!("skipped: missing mininet");
        return Ok(());
    }
    let other = up(port, "mininet")?;
    all_answer(&other).with_context(|| format!("mininet; {}", log()))?;
    drop(running);
    wait("the lab says that its controller is gone", || {
        let said = other.lab(&["status", "--name", &other.name])?;
        Ok(said.contains("no controller answers").then_some(()))
    })
}

#[test]
fn the_testcontroller_of_open_vswitch_drives_a_lab() -> Result<()> {
    drives_a_lab(|tools, dc, port| {
        let mut command = tools.testcontroller();
        command.arg(format!("--unixctl={}", dc.path("testcontroller.ctl").display()));
        command.args(["-O", "OpenFlow10,OpenFlow13", &format!("ptcp:{port}:127.0.0.1")]);
        Ok(command)
    })
}

#[test]
fn simple_switch_13_of_os_ken_drives_a_lab() -> Result<()> {
    drives_a_lab(|tools, _, port| Ok(tools.manager(port, &tools.simple("simple_switch_13"))))
}

#[test]
fn faucet_drives_a_lab() -> Result<()> {
    drives_a_lab(|tools, dc, port| {
        let mut text = "vlans:\n  office: {vid: 100}\ndps:\n".to_owned();
        let database = "--db=unix:/mnt/db.sock";
        let first = dc.exec("edge1", &["ovs-vsctl", database, "list-br"])?;
        for bridge in first.split_whitespace() {
            let dpid = dc.exec("edge1", &["ovs-vsctl", database, "get", "bridge", bridge, "datapath_id"])?;
            let dpid = u64::from_str_radix(dpid.trim().trim_matches('"'), 16)?;
            write!(
                text,
                "  {bridge}:\n    dp_id: {dpid}\n    hardware: \"Open vSwitch\"\n    interfaces:\n"
            )?;
            for number in 1..=4 {
                writeln!(text, "      {number}: {{native_vlan: office}}")?;
            }
        }
        let path = dc.path("faucet.yaml");
        std::fs::write(&path, text)?;
        let mut command = tools.manager(port, "faucet.faucet");
        command
            .env("FAUCET_CONFIG", path)
            .env("FAUCET_LOG", dc.path("faucet.log"))
            .env("FAUCET_EXCEPTION_LOG", dc.path("faucet.exceptions"))
            .env("FAUCET_PROMETHEUS_PORT", free_port()?.to_string())
            .env("FAUCET_EVENT_SOCK", "");
        Ok(command)
    })
}

/// What is no address is refused before anything is made.
#[test]
fn an_address_that_is_none_is_refused() -> Result<()> {
    if !can_emulate() {
        return Ok(());
    }
    for bad in ["tcp:127.0.0.1", "tcp:127.0.0.1:0", "ssl:127.0.0.1:6653"] {
        let mut dc = DataCentre::prepare(SITE)?;
        dc.controller_at = Some(bad.to_owned());
        let said = format!("{:#}", dc.lab_up().expect_err(bad));
        ensure!(said.contains(bad) && said.contains("tcp:"), "{said}");
        let none = dc.lab(&["status", "--name", &dc.name]).expect_err("nothing was made");
        ensure!(format!("{none:#}").contains("there is no lab"), "{none:#}");
    }
    Ok(())
}
