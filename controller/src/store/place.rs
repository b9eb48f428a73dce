//! The path of the store, which does not depend on the folder that the controller is started in;
//! and the move of a store from a former path.
//!
//! ```text
//! /var/lib/tandem/SITE/          root, and $STATE_DIRECTORY/SITE/ for the systemd unit; $XDG_STATE_HOME/tandem/SITE/ for other users
//!   store.sqlite                 0600, in folders of mode 0700
//!   agents/                      the agents' certificate authority
//! ```

use super::opening;
use anyhow::{Context, bail};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The store's file name.
const FILE: &str = "store.sqlite";
/// Its former file name: in the folder that the controller was started in, or in the unit's.
const FORMER: &str = "tandem.sqlite";
/// The folder of the agents' authority, next to the store.
const AGENTS: &str = "agents";

/// A store's path, and remarks about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// A store at a former path that was moved here.
    pub taken_over: Option<PathBuf>,
    /// A store at a former path that is not used, with the reason.
    pub left: Option<(PathBuf, String)>,
}

/// The environment that decides the store's path; separate from the process for tests.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The effective user id.
    pub uid: u32,
    /// `STATE_DIRECTORY`, as systemd sets it for a unit.
    pub state_directory: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// The folder that the process was started in.
    pub started_in: PathBuf,
}

impl Surroundings {
    /// The environment of this process.
    pub fn of_process() -> Surroundings {
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Surroundings {
            uid: rustix::process::geteuid().as_raw(),
            state_directory: path("STATE_DIRECTORY"),
            xdg_state_home: path("XDG_STATE_HOME"),
            home: path("HOME"),
            started_in: std::env::current_dir().unwrap_or_default(),
        }
    }

    /// The folder that has a folder for each site.
    ///
    /// When this user has no folder for such files.
    fn base(&self) -> anyhow::Result<PathBuf> {
        if let Some(folder) = &self.state_directory {
            return Ok(folder.clone());
        }
        if self.uid == 0 {
            return Ok("/var/lib/tandem".into());
        }
        // XDG base directory specification: a relative path has to be ignored.
        let state = self.xdg_state_home.clone().filter(|p| p.is_absolute());
        let home = self.home.as_ref().map(|h| h.join(".local/state"));
        let state = state.or(home).context(
            "neither XDG_STATE_HOME nor HOME is set, so there is no place for the store; give one with --store",
        )?;
        Ok(state.join("tandem"))
    }

    /// The folder of a site's store.
    ///
    /// When the site's name is not valid for a folder.
    pub fn folder(&self, site: &str) -> anyhow::Result<PathBuf> {
        let usable = (1..=63).contains(&site.len())
            && site.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !site.starts_with('.');
        if !usable {
            bail!(
                "the site's name {site:?} cannot be a folder's; give the store's file with --store, or name the site otherwise"
            );
        }
        Ok(self.base()?.join(site))
    }
}

/// The path of a site's store, for reading: nothing is created or moved.
///
/// When there is no such path.
pub fn look_up(site: &str, around: &Surroundings) -> anyhow::Result<PathBuf> {
    Ok(around.folder(site)?.join(FILE))
}

/// Finds a site's store, creates its folder, and moves a store at a former path there.
///
/// When the folder cannot be created, belongs to another user, or the former store cannot be moved;
/// that is untouched then.
pub fn find(site: &str, around: &Surroundings) -> anyhow::Result<Place> {
    let folder = around.folder(site)?;
    let base = around.base()?;
    let file = folder.join(FILE);
    let mut place = Place { file: file.clone(), taken_over: None, left: None };
    make_private(&base)?;
    let former = [base.join(FORMER), around.started_in.join(FORMER)];
    let former = former.into_iter().find(|p| std::fs::symlink_metadata(p).is_ok());
    if let Some(former) = former {
        if std::fs::symlink_metadata(&file).is_ok() {
            let why =
                "this site has a store of its own already; remove the one that you do not need".to_owned();
            place.left = Some((former, why));
        } else if let Some(why) = not_ours(&former, around.uid, site) {
            place.left = Some((former, why));
        } else {
            take_over(&former, &folder)?;
            place.taken_over = Some(former);
        }
    }
    make_private(&folder)?;
    Ok(place)
}

/// Creates a folder that only this user can enter.
fn make_private(folder: &Path) -> anyhow::Result<()> {
    let fail = || format!("cannot make {} for the store; give another place with --store", folder.display());
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).with_context(fail)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(fail),
    }
    let meta = std::fs::metadata(folder).with_context(fail)?;
    if !meta.is_dir() {
        bail!(
            "{} is no folder, and the store's place is a folder; move it, or give another place with --store",
            folder.display()
        );
    }
    let own = rustix::process::geteuid().as_raw();
    if meta.uid() != own {
        bail!(
            "{} is user {}'s and not yours ({own}), so the store would not be safe there; give another place with --store",
            folder.display(),
            meta.uid()
        );
    }
    if meta.permissions().mode() & 0o777 != 0o700 {
        // Independent of the umask.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).with_context(fail)?;
    }
    Ok(())
}

/// Why a store at a former path is not taken over: other users may be able to put a file into the
/// folder that a controller is started in.
fn not_ours(former: &Path, uid: u32, site: &str) -> Option<String> {
    let Ok(meta) = std::fs::symlink_metadata(former) else {
        return Some("it cannot be looked at".to_owned());
    };
    if !meta.is_file() {
        return Some("it is no ordinary file".to_owned());
    }
    if meta.uid() != uid {
        return Some(format!("it is user {}'s", meta.uid()));
    }
    if meta.permissions().mode() & 0o022 != 0 {
        return Some("others may write to it".to_owned());
    }
    match super::site_of(former) {
        Ok(Some(other)) if other != site => Some(format!("it is of site {other:?}")),
        _ => None,
    }
}

/// Moves a store and its agents to `folder`, completely or not at all: they are copied to a
/// temporary name, which is renamed when the copy is complete. Only then are the former ones
/// renamed; a failure before that leaves them unchanged, and the next start copies again.
fn take_over(former: &Path, folder: &Path) -> anyhow::Result<()> {
    let fail =
        || format!("cannot bring the store {} to {}; it is as it was", former.display(), folder.display());
    let agents = former.with_file_name(AGENTS);
    let has_agents = std::fs::symlink_metadata(agents.join("authority.crt")).is_ok_and(|m| m.is_file());
    let mut scratch = folder.as_os_str().to_owned();
    scratch.push(".taking-over");
    let scratch = PathBuf::from(scratch);
    if std::fs::symlink_metadata(&scratch).is_ok() {
        std::fs::remove_dir_all(&scratch).with_context(fail)?;
    }
    make_private(&scratch)?;
    super::copy_store(former, &scratch.join(FILE)).with_context(fail)?;
    if has_agents {
        copy_folder(&agents, &scratch.join(AGENTS)).with_context(fail)?;
    }
    std::fs::File::open(&scratch).and_then(|f| f.sync_all()).with_context(fail)?;
    // An empty folder may exist already; a folder with contents makes this fail, so that nothing is
    // mixed.
    std::fs::rename(&scratch, folder).with_context(|| {
        let text = fail();
        format!("{text}. Is there something in {} already? Move it aside", folder.display())
    })?;
    opening::sync_folder(folder).with_context(fail)?;
    // The copies are in place: from here on a failure loses nothing, the former files only stay.
    let aside = |path: &Path| std::fs::rename(path, opening::beside(path, ".taken-over"));
    let kept = aside(former).and_then(|()| if has_agents { aside(&agents) } else { Ok(()) });
    if let Err(error) = kept {
        tracing::warn!(
            "{} was brought to {}, and could not be renamed: {error}",
            former.display(),
            folder.display()
        );
    }
    for suffix in ["-wal", "-shm"] {
        // Its contents were moved into the store before the copy.
        let _ = std::fs::remove_file(opening::beside(former, suffix));
    }
    Ok(())
}

/// Records the owner in the folder of the agents' authority.
///
/// When it belongs to another site, whose agents would be admitted here.
pub fn claim_agents(folder: &Path, site: &str) -> anyhow::Result<()> {
    let file = folder.join("site");
    let fail = || format!("cannot read or write {}", file.display());
    match std::fs::read_to_string(&file) {
        Ok(text) if text.trim() == site => Ok(()),
        Ok(text) => bail!(
            "the agents' authority {} is of site {}; you serve {site}: give that site's own with --authority",
            folder.display(),
            tandem_model::text::escaped(text.trim())
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::write(&file, format!("{site}\n")).with_context(fail)
        }
        Err(error) => Err(error).with_context(fail),
    }
}

/// Copies a folder with files and folders; other kinds are left out.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target)?;
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600))?;
            std::fs::File::open(&target)?.sync_all()?;
        }
    }
    std::fs::File::open(to)?.sync_all()
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
