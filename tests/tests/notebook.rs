//! The notebook of examples/ reads a run folder: its code cells run, one after the other, as Jupyter
//! runs them, on a run of its own with repetitions.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tandem_tests::program;

/// Python with pandas and matplotlib; none where it cannot be installed.
fn python() -> Result<Option<PathBuf>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/notebook/install");
    let output = Command::new(script).stdin(Stdio::null()).output().context(script)?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() || std::env::var_os("CI").is_none(), "in CI nothing is skipped; {why}");
    if !output.status.success() {
        eprintln!("skipped: {why}");
        return Ok(None);
    }
    let folder = String::from_utf8(output.stdout)?;
    Ok(Some(PathBuf::from(folder.trim()).join("bin/python")))
}

#[test]
fn its_cells_run_on_a_run_folder_and_draw_two_figures() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let (run, figures) = (folder.path().join("run"), folder.path().join("figures"));
    std::fs::create_dir(&figures)?;
    for options in [&["--repeat", "2"][..], &["--csv", "thesis"]] {
        let output = Command::new(program("tandem-lab")?)
            .args(["experiment", "fill", "--policy", "best-fit,worst-fit,weighted", "--out"])
            .arg(&run)
            .args(options)
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let output = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/notebook/run_cells.py"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/run_folder.ipynb"))
            .arg(&figures)
            .env("RUN", &run)
            .env("MPLCONFIGDIR", folder.path())
            .stdin(Stdio::null())
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.success() && said.contains("4 code cells ran"), "{options:?}: {said}");
        ensure!(said.contains("fill in the simulated world"), "{said}");
        ensure!(std::fs::read_dir(&figures)?.count() == 2, "{options:?}: a figure each of two cells");
    }
    Ok(())
}
