//! A new site file by questions on the terminal: what `tandem init` does, and what `tandem serve`
//! offers where there is none.
//!
//! Nothing is written before the last answer, and then the whole file at once: whoever leaves by
//! Ctrl-C leaves nothing behind.

use anyhow::{Context, bail};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use tandem_core::policy::registry::{ALLOCATION, names};
use tandem_model::site::Faults;
use tandem_site_import::init::Init;

/// Asks on standard input, or takes the defaults, and writes the file.
///
/// # Errors
/// When the file is there and nobody allows that it is replaced, when the answers end early, or when
/// it cannot be written.
pub fn make(path: &Path, defaults: bool) -> anyhow::Result<()> {
    let replaces = path.exists();
    if replaces && !may_replace(path, defaults)? {
        bail!("{} is there already, and was left as it is; choose another name", path.display());
    }
    let check = |text: &str| -> Result<(), Faults> { tandem_core::site::read(text, "site.toml").map(|_| ()) };
    let allocations = names(ALLOCATION);
    let init = Init { check: &check, allocations: &allocations };
    let text = match defaults {
        true => init.defaults()?,
        false => init.ask(&mut io::stdin().lock(), &mut io::stderr().lock())?,
    };
    write(path, &text, replaces)?;
    let shown = path.display();
    println!("wrote {shown}; check it by `tandem check {shown}`, start by `tandem serve --site {shown}`");
    Ok(())
}

/// Where there is no site file: asks for one on a terminal.
///
/// # Errors
/// Where nobody can be asked, with the command that makes one.
pub fn offer(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let shown = path.display();
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        bail!(
            "there is no site file {shown}; make one by `tandem init {shown}`, or say where it is: --site FILE"
        );
    }
    eprintln!("There is no site file {shown}. These questions make one; Ctrl-C leaves without.");
    make(path, false)
}

fn may_replace(path: &Path, defaults: bool) -> anyhow::Result<bool> {
    if defaults || !io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("{} is there already. Replace it? [no]: ", path.display());
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

fn write(path: &Path, text: &str, replaces: bool) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let cannot = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As any new file: what the process' mask leaves of it.
    let mode = std::fs::Permissions::from_mode(0o666);
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix(".site-").permissions(mode).tempfile_in(folder).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    match replaces {
        true => drop(file.persist(path).map_err(|e| e.error).with_context(cannot)?),
        // One that has come in the meantime stays.
        false => drop(file.persist_noclobber(path).map_err(|e| e.error).with_context(cannot)?),
    }
    Ok(())
}
