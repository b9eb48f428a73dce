//! Records stored on a host for later controllers: the specification of each VM's last request, and
//! the owner of the host.
//!
//! Below `keep` (`/var/lib/tandem` by default): `vms/UUID`, a [`VmSpec`] as JSON; `owner`, the
//! controller that the host serves, and `rival`, another one that has tried to claim it since the
//! owner looked last (an [`Owner::line`] each).

use super::Xl;
use super::host::{HostState, Ours};
use crate::owner::Owner;
use crate::{FoundState, VmmError};
use std::collections::BTreeMap;
use tandem_model::{Time, VmId, VmSpec};

/// The most bytes of a stored specification: a name and an image's name are bounded, the rest are
/// numbers.
const LONGEST: usize = 8192;

/// Lists domains, then the stored specification of each VM (below `$1`, at most `$2` bytes); reads
/// only. A domain's name, which any user of the host may choose, cannot look like the separator
/// line, as its columns follow it.
const LIST: &str = r#"xl list -v || exit 1
echo '== kept'
for f in "$1"/vms/*; do
  [ -f "$f" ] && case $f in *.new) ;; *) printf '%s ' "${f##*/}"; head -c "$2" "$f" | tr -d '\n'; echo ;; esac
done; :"#;

/// Below `$1`: makes `$2` the owner if there is none, or if `$3` is `yes`. Prints the owner; then,
/// for the owner, the other controller that has tried since. Another controller is recorded as
/// having tried.
const CLAIM: &str = r#"mkdir -p "$1" || exit 1
new=$1/owner.$$
printf '%s\n' "$2" > "$new" || { rm -f "$new"; exit 1; }
if [ "$3" = yes ]; then mv "$new" "$1/owner"; else ln "$new" "$1/owner" 2>/dev/null; rm -f "$new"; fi
owner=$(head -c 2000 "$1/owner") || exit 1
printf '%s\n' "$owner"
if [ "${owner%% *}" = "${2%% *}" ]; then
  mv "$1/rival" "$1/rival.$$" 2>/dev/null && { head -c 2000 "$1/rival.$$"; rm -f "$1/rival.$$"; }
else
  printf '%s\n' "$2" > "$1/rival.$$" && mv "$1/rival.$$" "$1/rival"
fi; :"#;

/// The VMs found on a host, each with its stored specification.
pub(crate) type Seen = Vec<(Ours, Option<Box<VmSpec>>)>;

/// The path of a VM's specification on a host; `None` for an id without a UUID.
pub(crate) fn path(host: &HostState, vm: VmId) -> Option<String> {
    host.tag.uuid(vm).map(|uuid| format!("{}/vms/{uuid}", host.host.keep))
}

/// The two parts of [`LIST`]'s output.
pub(crate) fn parts(text: &str) -> (String, BTreeMap<String, Box<VmSpec>>) {
    let mut lines = text.lines();
    let listed: Vec<&str> = lines.by_ref().take_while(|line| *line != "== kept").collect();
    let kept = lines.filter_map(|line| {
        let (uuid, json) = line.split_once(' ')?;
        // One that cannot be parsed counts as not stored.
        let spec = serde_json::from_str(json).ok()?;
        Some((uuid.to_ascii_lowercase(), Box::new(spec)))
    });
    let kept = kept.collect();
    (listed.join("\n"), kept)
}

impl HostState {
    /// The VMs of the site on this host, with their stored specifications. Reads only.
    pub(crate) async fn seen(&self) -> Result<Seen, VmmError> {
        let what = "listing its domains";
        let text = self.look(what, LIST, &[&self.host.keep, &LONGEST.to_string()]).await?;
        let (listed, mut kept) = parts(&text);
        let domains = super::parse::domains(&listed).map_err(|e| self.nonsense(what, &e))?;
        let with = |ours: Ours| {
            let spec = kept.remove(&ours.domain.uuid.to_ascii_lowercase());
            (ours, spec)
        };
        Ok(self.sift(domains).into_iter().map(with).collect())
    }

    /// Stores this specification with a VM.
    pub(crate) async fn keep(&self, vm: VmId, spec: &VmSpec) -> Result<(), VmmError> {
        let text = serde_json::to_string(spec).map_err(|e| self.nonsense("what is kept with a VM", &e))?;
        match path(self, vm) {
            Some(path) if text.len() < LONGEST => self.put(&path, &text, "0600").await,
            _ => Ok(()),
        }
    }

    /// The domains of a VM; an error if one of them was created for another request than that of
    /// `placed_at`, or runs and has an unknown request.
    pub(crate) async fn meant(&self, vm: VmId, placed_at: Option<Time>) -> Result<Vec<Ours>, VmmError> {
        let all = self.seen().await?.into_iter().filter(|(ours, _)| ours.vm == vm);
        let mut meant = Vec::new();
        for (ours, spec) in all {
            let made_for = spec.map(|s| s.origin.placed_at);
            let host = || self.host.name.clone();
            match (made_for, placed_at, ours.state()) {
                (Some(is), Some(meant), state) if is != meant && state != FoundState::Dying => {
                    return Err(VmmError::NotMeant { host: host(), vm });
                }
                (None, Some(_), FoundState::Running) => {
                    return Err(VmmError::MadeForUnknown { host: host(), vm });
                }
                _ => {}
            }
            meant.push(ours);
        }
        Ok(meant)
    }
}

impl Xl {
    /// See [`crate::Hypervisor::claim`].
    pub(crate) async fn claim_host(
        &self,
        host: &HostState,
        owner: &Owner,
        take_over: bool,
    ) -> Result<Option<Owner>, VmmError> {
        let what = "asking whom it serves";
        let line = owner.line();
        let take = if take_over { "yes" } else { "no" };
        let text = host.look(what, CLAIM, &[&host.host.keep, &line, take]).await?;
        let mut lines = text.lines();
        let by = lines.next().and_then(Owner::read).ok_or_else(|| {
            let why = format!(
                "{}/owner is not a valid owner; remove it, or take the host over: `tandem hypervisors take-over`",
                host.host.keep
            );
            VmmError::Refused { what: format!("{what}: {}", host.host.name), why }
        })?;
        if by.store != owner.store {
            return Err(VmmError::Owned { host: host.host.name.clone(), by });
        }
        Ok(lines.next().and_then(Owner::read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_and_what_is_not_ours_is_left_out() {
        let text = "Name ID\nDomain-0 0\n== kept \nx 3 -b---- 1.0\n== kept\nAB {\"no\": \"spec\"}\nnothing\n";
        let (listed, kept) = parts(text);
        assert_eq!(listed, "Name ID\nDomain-0 0\n== kept \nx 3 -b---- 1.0");
        assert!(kept.is_empty());
    }
}
