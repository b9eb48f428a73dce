//! The Debian packages: what is in them, and that they install, remove and purge into a root
//! directory of their own.

use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Command;
use tandem_tests::program;

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "{command:?}: {out}{err}");
    Ok(out.into_owned())
}

/// Packages belong to root, and so does what they install.
fn can_install() -> bool {
    let root = run(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let there = root && Path::new("/usr/bin/dpkg-deb").exists();
    assert!(there || std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: root or dpkg");
    if !there {
        eprintln!("skipped: missing root or dpkg");
    }
    there
}

#[test]
fn the_packages_hold_what_they_should_and_install_into_a_root() -> anyhow::Result<()> {
    if !can_install() {
        return Ok(());
    }
    let folder = tempfile::Builder::new().prefix("tandem-packages-").tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/package");
    let made = run(Command::new(script)
        .env("DPKG_DEB_COMPRESSOR_TYPE", "gzip")
        .env("DPKG_DEB_COMPRESSOR_LEVEL", "1")
        .args(["--out".as_ref(), folder.path()])
        .args(["--agent".as_ref(), program("tandem-agent")?.as_path()])
        .args(["--controller".as_ref(), program("tandem")?.as_path()]))?;
    let packages: Vec<PathBuf> = made.lines().map(PathBuf::from).collect();
    let [agent, controller] = &packages[..] else { anyhow::bail!("two packages, not {made}") };

    let list = run(Command::new("dpkg-deb").arg("-c").arg(agent))?;
    for file in [
        "./usr/bin/tandem-agent",
        "./lib/systemd/system/tandem-agent.service",
        "./usr/share/doc/tandem-agent/agent.toml",
        "./usr/share/doc/tandem-agent/copyright",
    ] {
        let line =
            list.lines().find(|l| l.ends_with(file)).with_context(|| format!("{file} is not in {list}"))?;
        assert!(line.contains("root/root"), "{line}");
    }
    let info = run(Command::new("dpkg-deb").arg("-I").arg(agent))?;
    assert!(!info.contains("Depends:"), "a static program needs nothing: {info}");
    let version = run(Command::new(program("tandem-agent")?).arg("--version"))?;
    let version = version.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    assert!(info.contains(&format!("Version: {version}")), "{info}");
    let info = run(Command::new("dpkg-deb").arg("-I").arg(controller))?;
    assert!(info.contains("libc6 (>= ") && info.contains("conffiles"), "{info}");

    // A root directory with an empty database of packages.
    let root = at("root");
    for folder in ["info", "updates", "triggers"] {
        std::fs::create_dir_all(root.join("var/lib/dpkg").join(folder))?;
    }
    std::fs::write(root.join("var/lib/dpkg/status"), "")?;
    let dpkg = || {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", root.display()));
        command
            .args(["--force-script-chrootless", "--force-depends"])
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(dpkg().arg("-i").args(&packages))?;
    let said = run(Command::new(root.join("usr/bin/tandem-agent")).arg("--version"))?;
    assert!(said.contains(&version), "{said}");
    let unit = std::fs::read_to_string(root.join("lib/systemd/system/tandem-agent.service"))?;
    assert!(unit.contains("ExecStart=/usr/bin/tandem-agent --config /etc/tandem/agent.toml"), "{unit}");
    assert!(
        !unit.contains('@') || unit.matches('@').count() == unit.matches("=@system-service").count(),
        "{unit}"
    );

    let state = root.join("var/lib/tandem-agent");
    std::fs::create_dir_all(&state)?;
    std::fs::write(root.join("etc/default/tandem"), "TANDEM_OPTIONS=\"--csv /tmp\"\n")?;
    run(dpkg().args(["--remove", "tandem-agent", "tandem"]))?;
    assert!(!root.join("usr/bin/tandem-agent").exists());
    assert!(state.exists() && root.join("etc/default/tandem").exists(), "removing keeps what was written");
    run(dpkg().args(["--purge", "tandem-agent", "tandem"]))?;
    assert!(!state.exists() && !root.join("etc/default/tandem").exists());
    Ok(())
}

#[test]
fn the_units_are_ones_that_systemd_understands() -> anyhow::Result<()> {
    let Ok(analyze) = run(Command::new("sh").args(["-c", "command -v systemd-analyze"])) else {
        assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped; missing: systemd");
        eprintln!("skipped: missing systemd-analyze");
        return Ok(());
    };
    let folder = tempfile::Builder::new().prefix("tandem-units-").tempdir()?;
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, name) in [
        ("../controller/testbed/src/deploy/unit.service", "tandem-agent.service"),
        ("../controller/debian/tandem.service", "tandem.service"),
    ] {
        let text = std::fs::read_to_string(own.join(file))?;
        // Programs that are there: systemd looks.
        let text = text
            .replace("@AGENT@", "/bin/true")
            .replace("/usr/bin/tandem", "/bin/true")
            .replace("@CONFIG@", "/etc/x");
        let unit = folder.path().join(name);
        std::fs::write(&unit, text)?;
        let output = Command::new(analyze.trim()).arg("verify").arg(&unit).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = said.lines().filter(|l| l.contains(name)).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
    Ok(())
}
