//! A cold move: the VM is saved to a file, the file and the local disks are copied, each with a
//! checksum, and the VM is restored on the other host.
//!
//! Before anything is copied, `/var/lib/tandem/moves/migN` (`keep`) on either host has `disks`, the
//! list of copies; on the source also `state`, the VM's memory. The source has everything until the
//! VM runs on the target: if the move ends before, the VM is restored there ([`take_back`]).

use super::guest::{self, REMOVE_DISK};
use super::host::HostState;
use super::job;
use super::lifecycle::config_path;
use super::load::bytes_of;
use super::section::Transport;
use super::{Xl, live};
use crate::config::{CloneBy, Disk};
use crate::{
    MigrateError, MigrateOrder, MigrationControl, MigrationKey, MigrationReport, Moved, VmLocation, VmmError,
};
use std::time::Duration;
use tandem_model::{Bytes, Progress};
use tandem_testbed::ssh::quote;
use tokio::time::{Instant, sleep};

const LOOK: Duration = Duration::from_millis(500);

/// Prints an identification of a disk that is equal on all hosts that reach it, with its size.
pub(crate) const IDENTITY: &str = r#"if [ -b "$1" ]; then
  d=$(basename "$(readlink -f "$1")")
  echo "$(cat "/sys/class/block/$d/dm/uuid" "/sys/class/block/$d/device/wwid" "/sys/class/block/$d/wwid" 2>/dev/null | head -n 1)"
  blockdev --getsize64 "$1"
elif [ -f "$1" ]; then stat -c '%i %s %Y' "$1"; stat -c %s "$1"
fi"#;

pub(crate) fn folder(host: &HostState, key: MigrationKey) -> String {
    format!("{}/moves/mig{}", host.host.keep, key.migration.0)
}

/// Whether the VM's memory is in a file on the source.
pub(crate) async fn saved(source: &HostState, key: MigrationKey) -> Result<bool, VmmError> {
    let script = "[ -s \"$1/state\" ] || [ -s \"$1/state.part\" ] && echo yes; :";
    match source.ask("looking for its saved memory", script, &[&folder(source, key)]).await {
        Ok(text) => Ok(text.contains("yes")),
        Err(why) if why.is_away() => Ok(false),
        Err(why) => Err(why),
    }
}

/// Restores a saved VM on the source.
pub(crate) async fn take_back(source: &HostState, key: MigrationKey) -> Result<(), VmmError> {
    let script =
        r#"[ -s "$1/state" ] || mv "$1/state.part" "$1/state" && xl restore "$2" "$1/state" && rm -rf "$1""#;
    let (dir, config) = (folder(source, key), config_path(source, key.vm));
    let what = format!("taking {} back", key.vm);
    let output = source.run(&what, script, &[&dir, &config], &[], source.host.times.start).await?;
    source.good(&what, output).map(drop)
}

/// Prepares the target for a disk of the VM that is to be copied.
async fn prepare_disk(target: &HostState, disk: &Disk, path: &str, size: u64) -> Result<(), VmmError> {
    match disk.clone {
        // A device has to exist before it is written.
        CloneBy::LvmSnapshot => {
            let script =
                "[ -e \"$1\" ] || lvcreate --yes --name \"${1##*/}\" --size \"${2}B\" \"${3}\" >/dev/null";
            let group = disk.folder.trim_start_matches("/dev/");
            target.ask("making room for its disk", script, &[path, &size.to_string(), group]).await?;
        }
        // It is based on the image's own file.
        CloneBy::Qcow2 => {
            let script =
                "[ -e \"$1\" ] || { echo \"there is no $1, on which its disk stands\" >&2; exit 1; }";
            target.ask("looking for its image", script, &[&disk.source]).await?;
        }
        CloneBy::Copy => {}
    }
    Ok(())
}

/// Removes what `loser` still has of the VM after a cold move or an attempt, and the saved memory
/// on both.
pub(crate) async fn clean(
    loser: &HostState,
    source: &HostState,
    target: &HostState,
    key: MigrationKey,
) -> Result<(), VmmError> {
    let script = "cat \"$1/disks\" 2>/dev/null; :";
    let text = loser.ask("looking for copied disks", script, &[&folder(loser, key)]).await?;
    for (word, path) in text.lines().filter_map(|l| l.split_once(' ')) {
        let what = format!("removing {path}");
        loser.ask(&what, REMOVE_DISK, &[path, word]).await?;
    }
    loser.ask("removing its configuration", "rm -f \"$1\"", &[&config_path(loser, key.vm)]).await?;
    for host in [source, target] {
        match host.ask("removing its saved memory", "rm -rf \"$1\"", &[&folder(host, key)]).await {
            Ok(_) => {}
            Err(why) if why.is_away() => {}
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

impl Xl {
    /// The VM's own disk, if its image has one.
    pub(crate) fn own_disk(&self, order: &MigrateOrder) -> Result<Option<(&Disk, String)>, VmmError> {
        let image = guest::image(&self.images, "this driver", order.spec.image.as_deref())?;
        Ok(image.disk.as_ref().map(|d| (d, guest::disk_path(d, order.key.vm))))
    }

    /// The VM's disk and its size, unless the target reaches the same one.
    pub(crate) async fn local_disk(
        &self,
        source: &HostState,
        target: &HostState,
        order: &MigrateOrder,
    ) -> Result<Option<(&Disk, String, u64)>, VmmError> {
        let Some((disk, path)) = self.own_disk(order)? else { return Ok(None) };
        let here = source.ask("looking at its disk", IDENTITY, &[&path]).await?;
        let there = target.ask("looking for its disk", IDENTITY, &[&path]).await?;
        let mut lines = here.lines();
        let (id, size) = (lines.next().unwrap_or("").trim(), lines.next().unwrap_or(""));
        if !id.is_empty() && here == there {
            return Ok(None);
        }
        let size = size.trim().parse().map_err(|_| source.nonsense("looking at its disk", &here))?;
        Ok(Some((disk, path, size)))
    }

    /// Moves a stopped VM: saves it, copies memory and disk, restores it.
    pub(crate) async fn migrate_cold(
        &self,
        order: &MigrateOrder,
        control: &mut MigrationControl,
    ) -> Result<Moved, MigrateError> {
        let key = order.key;
        let here = |why| MigrateError { at: VmLocation::At(key.from), why };
        let unsure = |why| MigrateError { at: VmLocation::Unknown, why };
        let source = self.host(key.from).map_err(here)?;
        let target = self.host(key.to).map_err(here)?;
        let began = Instant::now();
        let known = job::look(source, key.migration, 0, None).await.map_err(unsure)?;
        let begun = if known.alive {
            // After a restart of the controller the total is unknown.
            Ok(0)
        } else {
            self.begin_cold(source, target, order, control).await
        };
        let result = match begun {
            Ok(total) => self.follow_cold(source, key, control, total).await,
            Err(why) => Err(why),
        };
        let result = match result {
            Ok(()) => {
                let _ = control.reports.send(MigrationReport::Suspended).await;
                self.restore(target, key).await
            }
            Err(why) => Err(why),
        };
        let downtime = Some(began.elapsed());
        let ended = self.end(source, target, key, result.err()).await;
        ended.map(|_| Moved { downtime })
    }

    async fn begin_cold(
        &self,
        source: &HostState,
        target: &HostState,
        order: &MigrateOrder,
        control: &mut MigrationControl,
    ) -> Result<u64, VmmError> {
        let key = order.key;
        let domain = source.running(key.vm).await?;
        let local = self.local_disk(source, target, order).await?;
        let image = guest::image(&self.images, &target.host.name, order.spec.image.as_deref())?;
        let config = guest::config(target.tag, &target.host, image, key.vm, &order.spec)?;
        let keep = folder(source, key);
        let line = local
            .as_ref()
            .map_or_else(String::new, |(d, path, _)| format!("{} {path}\n", guest::clone_word(d)));
        for host in [source, target] {
            host.put(&format!("{}/disks", folder(host, key)), &line, "0600").await?;
        }
        target.put(&config_path(target, key.vm), &config, "0600").await?;
        target.keep(key.vm, &order.spec).await?;
        if let Some((disk, path, size)) = &local {
            prepare_disk(target, disk, path, *size).await?;
        }
        let relay = source.relay();
        // The receiver writes only below the folders of the saved memory and of the disks.
        let mut receiver =
            format!("exec python3 {} receive {}", quote(&target.relay()), quote(&target.host.keep));
        if let Some((disk, ..)) = &local {
            receiver.push_str(&format!(" {}", quote(&disk.folder)));
        }
        let rate = *control.rate.borrow_and_update();
        let words = ["sh", "-c", receiver.as_str()];
        let receive: &[&str] = if target.host.transport == Transport::Ssh { &words[2..] } else { &words };
        let transport = live::open(source, target, key.migration, rate, receive).await?;
        let script = r#"state=$1; id=$2; shift 2
[ -s "$state" ] || { xl save "$id" "$state.part" && mv "$state.part" "$state"; } || exit 1
exec python3 "$@""#;
        let (state, id, dir) =
            (format!("{keep}/state"), domain.id.to_string(), job::folder(source, key.migration));
        let mut command = vec!["sh", "-c", script, "tandem", &state, &id, &relay, "copy", &dir];
        command.extend(transport.iter().map(String::as_str));
        let mut files = vec![format!("{state}={}/state", folder(target, key))];
        files.extend(local.iter().map(|(_, path, _)| format!("{path}={path}")));
        command.push("--");
        command.extend(files.iter().map(String::as_str));
        job::start(source, key.migration, &command).await?;
        Ok(bytes_of(domain.memory_mib).saturating_add(local.as_ref().map_or(0, |l| l.2)))
    }

    async fn follow_cold(
        &self,
        source: &HostState,
        key: MigrationKey,
        control: &mut MigrationControl,
        total: u64,
    ) -> Result<(), VmmError> {
        let (mut cut, mut last) = (false, (Instant::now(), 0));
        let mut progress = Progress { remaining: Bytes(total), ..Progress::default() };
        let mut rate = Some(*control.rate.borrow_and_update());
        loop {
            let look = job::look(source, key.migration, u64::MAX / 2, rate).await?;
            let sent = look.sent.unwrap_or(0);
            let took = last.0.elapsed();
            if took >= Duration::from_secs(1) {
                let bits = (sent - sent.min(last.1)).saturating_mul(8) as f64 / took.as_secs_f64();
                progress.rate = tandem_model::BitRate(bits as u64);
                last = (Instant::now(), sent);
            }
            progress.round = u32::from(sent > 0);
            (progress.sent, progress.remaining) = (Bytes(sent), Bytes(total.saturating_sub(sent)));
            let _ = control.reports.send(MigrationReport::Progress(progress)).await;
            if !look.alive {
                return match look.rc {
                    Some(0) => Ok(()),
                    _ if cut => Err(VmmError::Cancelled),
                    _ => Err(VmmError::Failed {
                        host: source.host.name.clone(),
                        what: format!("copying {}", key.vm),
                        why: job::why(source, key.migration).await,
                    }),
                };
            }
            if control.cancel.is_cancelled() && !cut {
                cut = job::cut(source, key.migration).await.is_ok();
            }
            sleep(LOOK).await;
            let changed = control.rate.has_changed().unwrap_or(false);
            rate = changed.then(|| *control.rate.borrow_and_update());
        }
    }

    /// Starts the copied VM on the target.
    async fn restore(&self, target: &HostState, key: MigrationKey) -> Result<(), VmmError> {
        let script = r#"mv "$1/state.part" "$1/state" || exit 1
while read -r word path; do [ "$word" = lvm-snapshot ] || mv "$path.part" "$path" || exit 1; done < "$1/disks"
xl restore "$2" "$1/state""#;
        let (keep, config) = (folder(target, key), config_path(target, key.vm));
        let what = format!("restoring {}", key.vm);
        let output = target.run(&what, script, &[&keep, &config], &[], target.host.times.start).await?;
        target.good(&what, output).map(drop)
    }
}
