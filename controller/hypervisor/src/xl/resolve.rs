//! Locates the VM of a move and cleans up: executes the actions of [`super::resolution`] on real
//! hosts.

use super::host::{HostState, Ours};
use super::resolution::{Act, Place, Side, resolution, side};
use super::tag::name;
use super::{Xl, cold, job};
use crate::{FoundState, MigrationKey, ResolveOutcome, VmLocation, VmmError};
use std::time::Duration;
use tandem_model::{Time, VmId};

/// How long `xl` may take to resume a guest after its transport has ended.
const TAKE_BACK: Duration = Duration::from_secs(60);

/// Resumes a domain that was suspended for a migration. `xl` has a command for it since Xen 4.19;
/// before that its Python bindings do it: the hypervisor's resume with the guest's suspend call
/// answered as cancelled, and an entry in xenstore.
const RESUME: &str = r#"case $(xl list "$1" | tail -n 1) in
*--p---*|*-bp---*) xl unpause "$1" || exit 1 ;;
*) xl resume "$1" 2>/dev/null || python3 -c '
import glob, sys
sys.path[:0] = glob.glob("/usr/lib/xen-*/lib/python*") + glob.glob("/usr/lib/xen-*/lib/python*/*-packages") + glob.glob("/usr/lib/python3/dist-packages")
from xen.lowlevel import xc, xs
domain = int(sys.argv[1])
xc.xc().domain_resume(domain, 1)
xs.xs().resume_domain(domain)
' "$1" || { echo "it cannot be resumed; destroy it, and it is started anew" >&2; exit 1; } ;;
esac
[ "$(xl domname "$1")" = "$2" ] || xl rename "$1" "$2""#;

/// A host's domains of the VM; an error when it does not answer.
type Seen = Result<Vec<Ours>, VmmError>;

/// The same, with the request that they were created for, if known.
async fn look(host: &HostState, vm: VmId) -> (Seen, Option<Time>) {
    match host.seen().await {
        Ok(all) => {
            let of_it: Vec<_> = all.into_iter().filter(|(ours, _)| ours.vm == vm).collect();
            let made_for = of_it.iter().find_map(|(_, spec)| Some(spec.as_ref()?.origin.placed_at));
            (Ok(of_it.into_iter().map(|(ours, _)| ours).collect()), made_for)
        }
        Err(why) => (Err(why), None),
    }
}

fn side_of(seen: &Seen) -> Side {
    seen.as_ref().map_or(Side::Silent, |all| side(all))
}

/// An error of a host, unless it is only that the host does not answer.
fn only_away(errors: [Option<&VmmError>; 2]) -> Result<(), VmmError> {
    match errors.into_iter().flatten().find(|why| !why.is_away()) {
        Some(why) => Err(why.clone()),
        None => Ok(()),
    }
}

/// The processes of a migration on both hosts; an error where a host does not answer.
struct Transport {
    source: Result<job::Look, VmmError>,
    target: Result<job::Look, VmmError>,
}

impl Transport {
    async fn look(source: &HostState, target: &HostState, key: MigrationKey) -> Result<Transport, VmmError> {
        let (source, target) = tokio::join!(
            job::look(source, key.migration, 0, None),
            job::look(target, key.migration, 0, None)
        );
        only_away([source.as_ref().err(), target.as_ref().err()])?;
        Ok(Transport { source, target })
    }

    fn is_alive(look: &Result<job::Look, VmmError>) -> bool {
        look.as_ref().is_ok_and(|l| l.alive)
    }

    /// The source's process shows it; if the source does not answer, the target's.
    fn is_under_way(&self) -> bool {
        Transport::is_alive(&self.source) || (self.source.is_err() && Transport::is_alive(&self.target))
    }

    /// Ends it: first on the source, so that it resumes the guest; then the receiver on the target.
    async fn end(&self, source: &HostState, target: &HostState, key: MigrationKey) -> Result<(), VmmError> {
        if Transport::is_alive(&self.source) {
            job::stop(source, key.migration, TAKE_BACK).await?;
        }
        if Transport::is_alive(&self.target) {
            job::stop(target, key.migration, Duration::from_secs(10)).await?;
        }
        Ok(())
    }

    /// One of the hosts has its folder still.
    fn is_known(&self) -> bool {
        [&self.source, &self.target].into_iter().flatten().any(|l| l.known)
    }

    /// Why a host does not answer.
    fn away(&self) -> Option<VmmError> {
        self.source.as_ref().err().or(self.target.as_ref().err()).cloned()
    }
}

/// The location of the VM for the core.
fn location(place: Place, key: MigrationKey) -> VmLocation {
    match place {
        Place::Source => VmLocation::At(key.from),
        Place::Target => VmLocation::At(key.to),
        Place::Lost => VmLocation::Lost,
        Place::Unknown => VmLocation::Unknown,
    }
}

/// Deletes the migration's folder on the hosts that answered.
async fn forget(hosts: [(&HostState, &Seen); 2], key: MigrationKey) -> Result<(), VmmError> {
    for (host, seen) in hosts {
        if seen.is_ok() {
            job::forget(host, key.migration).await?;
        }
    }
    Ok(())
}

impl Xl {
    pub(crate) async fn resolve_migration(&self, key: MigrationKey, stop: bool) -> ResolveOutcome {
        let (Ok(source), Ok(target)) = (self.host(key.from), self.host(key.to)) else {
            let why = "one of its servers is not a host of this driver".to_owned();
            let why = VmmError::Refused { what: format!("looking for {}", key.vm), why };
            return ResolveOutcome::Ended(VmLocation::At(key.from), Some(why));
        };
        match self.resolve_between(source, target, key, stop).await {
            Ok(resolved) => resolved,
            Err(why) => ResolveOutcome::Ended(VmLocation::Unknown, Some(why)),
        }
    }

    async fn resolve_between(
        &self,
        source: &HostState,
        target: &HostState,
        key: MigrationKey,
        stop: bool,
    ) -> Result<ResolveOutcome, VmmError> {
        let transport = Transport::look(source, target, key).await?;
        if transport.is_under_way() && !stop {
            return Ok(ResolveOutcome::UnderWay);
        }
        transport.end(source, target, key).await?;
        // The domains of both hosts decide.
        let ((here, made_here), (mut there, made_there)) =
            tokio::join!(look(source, key.vm), look(target, key.vm));
        // A domain with this id that was created for another request does not belong to this move.
        let foreign = made_here.is_some() && made_there.is_some() && made_here != made_there;
        if foreign {
            tracing::warn!("{} has a {} that was made for another request", target.host.name, key.vm);
            there = Ok(Vec::new());
        }
        only_away([here.as_ref().err(), there.as_ref().err()])?;
        let (mut acts, mut place) = resolution(side_of(&here), side_of(&there));
        if place == Place::Lost && cold::saved(source, key).await? {
            // It was saved for a cold move and is restored from that file.
            cold::take_back(source, key).await?;
            (acts, place) = (Vec::new(), Place::Source);
        }
        if !acts.is_empty() {
            tracing::warn!(
                "{} of {}: {:?} on {}, {:?} on {}: {acts:?}",
                key.vm,
                key.migration,
                side_of(&here),
                source.host.name,
                side_of(&there),
                target.host.name
            );
        }
        for act in acts {
            self.act(act, source, &here, target, &there, key.vm).await?;
        }
        // The side that does not have the VM loses its folder, its disks and its saved memory.
        if transport.is_known() {
            let loser = match place {
                Place::Source => (there.is_ok() && !foreign).then_some(target),
                Place::Target => here.is_ok().then_some(source),
                Place::Lost | Place::Unknown => None,
            };
            if let Some(loser) = loser {
                cold::clean(loser, source, target, key).await?;
            }
            if place != Place::Unknown {
                forget([(source, &here), (target, &there)], key).await?;
            }
        }
        let at = location(place, key);
        let lost = || VmmError::GoneBehindOurBack { host: source.host.name.clone(), vm: key.vm };
        Ok(ResolveOutcome::Ended(at, transport.away().or_else(|| (at == VmLocation::Lost).then(lost))))
    }

    async fn act(
        &self,
        act: Act,
        source: &HostState,
        here: &Seen,
        target: &HostState,
        there: &Seen,
        vm: VmId,
    ) -> Result<(), VmmError> {
        let (host, seen) = match act {
            Act::DestroySource | Act::ResumeSource => (source, here),
            Act::DestroyTarget | Act::UnpauseTarget => (target, there),
        };
        for ours in seen.iter().flatten().filter(|o| o.state() != FoundState::Dying) {
            match act {
                Act::DestroySource | Act::DestroyTarget => host.destroy_domain(&ours.domain).await?,
                Act::ResumeSource | Act::UnpauseTarget => {
                    let id = ours.domain.id.to_string();
                    host.ask(&format!("letting {vm} run on"), RESUME, &[&id, &name(vm)]).await?;
                }
            }
        }
        Ok(())
    }
}
