//! The official Python client (`XenAPI` on the Python registry) with the double: a VM's life, and
//! failures as the client reports them. So an independent implementation of XAPI checks the double,
//! and the double checks the driver.
//!
//! The client is installed once, at a pinned version, into a virtual environment in the build's
//! folder. If that is not possible the test is skipped with the reason; in CI that is a failure.

use crate::double::{Double, Fault, SLAVE, Setup};
use std::path::{Path, PathBuf};
use std::process::Command;

const CLIENT: &str = "XenAPI==26.21.1";

/// The Python with the client.
fn python() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{}", CLIENT.replace("==", "-")));
    let python = target.join("bin/python");
    let has = |python: &Path| {
        let asked = Command::new(python).args(["-c", "import XenAPI"]).output();
        asked.is_ok_and(|o| o.status.success())
    };
    if has(&python) {
        return Ok(python);
    }
    // Created under a temporary name and renamed, so that a killed run leaves no half of it, and
    // two runs do not interfere.
    let aside = target.with_extension(std::process::id().to_string());
    let run = |program: &Path, arguments: &[&str]| {
        let what = format!("{} {}", program.display(), arguments.join(" "));
        let output = Command::new(program).args(arguments).output().map_err(|e| format!("{what}: {e}"))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned()
            + &String::from_utf8_lossy(&output.stdout);
        if output.status.success() { Ok(()) } else { Err(format!("{what}: {said}")) }
    };
    let _ = std::fs::remove_dir_all(&aside);
    let made = run(Path::new("python3"), &["-m", "venv", &aside.display().to_string()]).and_then(|()| {
        run(
            &aside.join("bin/python"),
            &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT],
        )
    });
    if let Err(why) = made {
        let _ = std::fs::remove_dir_all(&aside);
        return Err(why);
    }
    let _ = std::fs::remove_dir_all(&target);
    if std::fs::rename(&aside, &target).is_err() {
        let _ = std::fs::remove_dir_all(&aside);
    }
    if has(&python) { Ok(python) } else { Err(format!("{} does not find XenAPI", python.display())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_accepts_the_double() {
    let python = match tokio::task::spawn_blocking(python).await.expect("it does not panic") {
        Ok(python) => python,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; the client {CLIENT}: {why}");
            eprintln!(
                "skipped: the client {CLIENT} cannot be installed (python3-venv and a registry are needed): {why}"
            );
            return;
        }
    };
    for tls in [false, true] {
        let double = Double::start(Setup { tls, ..Setup::default() }).await;
        let before = double.things();
        double.script("VM.get_name_description", 0, Fault::CutAfter);
        double.script("VM.get_uuid", 0, Fault::EndSessions);
        double.script("Async.VM.pool_migrate", 1, Fault::Hang);
        let scheme = if tls { "https" } else { "http" };
        let master = format!("{scheme}://127.0.0.1:{}", double.port);
        let slave = format!("{scheme}://{SLAVE}:{}", double.port);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xapi/official_client.py");
        let mut run = tokio::process::Command::new(&python);
        run.args([script, &master, &slave, crate::double::PASSWORD]).kill_on_drop(true);
        let output =
            tokio::time::timeout(crate::ready::LIMIT, run.output()).await.expect("in time").expect("it runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
        assert!(out.ends_with("all as expected\n"), "{out}");
        assert_eq!(double.left(), Vec::<String>::new(), "what was to fail has failed");
        assert!(double.things() == before, "the client has removed what it made");
        assert_eq!(double.sessions(), 0, "and has logged out");
    }
}
