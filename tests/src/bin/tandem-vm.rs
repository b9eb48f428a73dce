//! Virtual machines for tests; see `tests/vm/README.md`.

use anyhow::Context;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use tandem_tests::vm::{qos, run::Run, testbed};

#[derive(Parser)]
#[command(about = "Virtual machines for tests; tests/vm/README.md says more")]
struct Arguments {
    /// The machines' image, as tests/vm/image makes it.
    #[arg(long, default_value = "target/vm/image")]
    image: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs the experiment qos-classes in a machine with the kernel's datapath, and fails when a
    /// share is more than 2 points off.
    Qos(qos::Options),
    /// Boots the virtual testbed and keeps it up until this program is ended, or until the command
    /// has ended.
    Testbed {
        /// Where inventory.toml, site.toml, the key and the machines' consoles are.
        #[arg(long, default_value = "target/vm/testbed")]
        folder: PathBuf,
        /// What to run on it, with INVENTORY and SITE set; its exit code is passed on.
        #[arg(last = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.verb {
        Verb::Qos(options) => qos::run(&arguments.image, &options).map(|()| ExitCode::SUCCESS),
        Verb::Testbed { folder, command } => hold(&arguments.image, &folder, &command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tandem-vm: {error:#}");
        ExitCode::FAILURE
    })
}

fn hold(image: &Path, folder: &Path, command: &[String]) -> anyhow::Result<ExitCode> {
    let run = Run::begin(folder, image)?;
    let mut testbed = testbed::start(&run)?;
    let (inventory, site) = (run.folder.join("inventory.toml"), run.folder.join("site.toml"));
    let Some((program, rest)) = command.split_first() else {
        println!("ready: {}\nends with this program (process {})", inventory.display(), std::process::id());
        loop {
            testbed.check()?;
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", program])
        .args(rest)
        .env("INVENTORY", inventory)
        .env("SITE", site)
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    testbed.check()?;
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}
