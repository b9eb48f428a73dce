//! What follows when the store has written something, or cannot.

use crate::compute::group_rules::is_entry;
use crate::compute::pending_writes::{PendingWrite, STORE_RETRY};
use crate::migration::MigrationMut;
use crate::rules::transactions::Purpose;
use crate::stored_item::Kept;
use crate::timers::Timer;
use tandem_model::{Level, Owner, Response, StoreId};

impl MigrationMut<'_> {
    pub(crate) fn on_stored(&mut self, id: StoreId) {
        if std::mem::take(&mut self.compute.store_is_down) {
            self.cx.notice(Level::Info, "store-back", "the store can be written again".into());
        }
        match self.compute.stores.remove(&id) {
            Some(PendingWrite::Placed(vm)) => {
                if !self.compute_mut().member_stored(vm) {
                    self.compute_mut().start_vm(vm);
                }
            }
            Some(PendingWrite::Formed(group, at)) => self.compute_mut().group_formed(group, at),
            Some(PendingWrite::Running(vm)) => self.compute_mut().announce_running(vm),
            Some(PendingWrite::Adopted(record, request)) => self.compute_mut().adopted(*record, request),
            Some(PendingWrite::Followed(record, request)) => self.compute_mut().followed(*record, request),
            Some(PendingWrite::Resized(vm)) => self.compute_mut().resize_stored(vm),
            Some(PendingWrite::Shrunk(vm)) => self.compute_mut().shrunk_stored(vm),
            Some(PendingWrite::Deleting(vm, request)) => self.compute_mut().on_deletion_stored(vm, request),
            Some(PendingWrite::Removed(vm)) => self.compute_mut().forget_vm(vm),
            Some(PendingWrite::Updated(_) | PendingWrite::Alive | PendingWrite::TakenBack) | None => {}
            Some(PendingWrite::Move(id, phase)) => self.move_stored(id, phase),
            Some(PendingWrite::MoveGone(id)) => self.end_move(id),
            Some(PendingWrite::Port(wish, request)) => self.compute_mut().port_stored(wish, request),
            Some(PendingWrite::Drained(server, options, request)) => {
                self.drained_stored(server, options, request);
            }
            Some(PendingWrite::Returned(server, request)) => self.returned_stored(server, request),
            Some(PendingWrite::Pin(vm, before, request)) => {
                self.compute_mut().pin_stored(vm, before, request)
            }
            Some(PendingWrite::Group(group, request)) => {
                let rules = self.compute().group_rules(group);
                let (_, differences) = self.rules.desired.replace(Owner::Group(group.0 as u32), rules);
                self.compute_mut().start_ordered(Purpose::GroupStart(group, request), differences, &is_entry);
                self.compute_mut().refresh_linked(group);
            }
            Some(PendingWrite::GroupRemoved(group, request)) => {
                self.compute_mut().isolate_group(group);
                self.cx.answer(request, Response::Done);
            }
            Some(PendingWrite::Shares(_, request)) => self.cx.answer(request, Response::Done),
        }
    }

    pub(crate) fn on_store_failed(&mut self, id: StoreId, why: &str) {
        let wait = self.compute.stores.remove(&id);
        if !std::mem::replace(&mut self.compute.store_is_down, true) {
            self.cx.notice(Level::Error, "store-failed", format!("the store could not be written: {why}"));
        }
        let text = format!("the decision could not be written to the store ({why}); nothing was changed");
        match wait {
            Some(PendingWrite::Formed(group, _)) => self.compute_mut().take_back(group, &text),
            Some(PendingWrite::Placed(vm)) => {
                let group = self.compute().forming_of(vm);
                // Nothing was started yet and the store has nothing: undo in memory only.
                let Some(entry) = self.compute.vms.remove(&vm) else { return };
                self.compute_mut().give_back(&entry);
                if let Some(group) = group {
                    self.compute_mut().group_member_gone(group, Some(vm));
                    self.compute_mut().take_back(group, &text);
                } else {
                    self.compute.counters.failed += 1;
                }
                let waiting = entry.requester.into_iter().chain(entry.deleters);
                waiting.for_each(|r| self.cx.answer(r, Response::Failed { why: text.clone() }));
            }
            Some(PendingWrite::Running(vm)) => self.compute_mut().fail_vm(vm, &text),
            Some(PendingWrite::Adopted(record, request) | PendingWrite::Followed(record, request)) => {
                self.compute_mut().not_adopted(&record, request, text);
            }
            Some(PendingWrite::Resized(vm)) => {
                if let Some(resize) = self.compute.vms.get_mut(&vm).and_then(|v| v.resizing.take()) {
                    self.compute_mut().set_resources(vm, resize.before);
                    let request = resize.request.into_iter();
                    request.for_each(|r| self.cx.answer(r, Response::Failed { why: text.clone() }));
                }
            }
            Some(PendingWrite::Shrunk(vm)) => self.compute_mut().shrunk_not_stored(vm, why),
            Some(PendingWrite::Deleting(_, request)) => {
                self.cx.answer(request, Response::Failed { why: text })
            }
            Some(PendingWrite::Removed(vm)) => {
                // It is stopped, and a restart would stop it again: who waits is notified, the rest
                // goes on without him.
                let deleters = self.compute.vms.get_mut(&vm).map(|v| std::mem::take(&mut v.deleters));
                let why = format!(
                    "{vm} is stopped, but its place is not free yet: the store could not be written ({why}); tried again every second"
                );
                let told = deleters.into_iter().flatten();
                told.for_each(|r| self.cx.answer(r, Response::Failed { why: why.clone() }));
                self.cx.timers.set(self.cx.now + STORE_RETRY, Timer::RetryRemove(vm));
            }
            Some(PendingWrite::Updated(kept)) => {
                self.cx.timers.set(self.cx.now + STORE_RETRY, Timer::RetryStore(kept))
            }
            Some(PendingWrite::Move(id, phase)) => self.move_not_stored(id, phase, why),
            Some(PendingWrite::MoveGone(id)) => self.move_not_forgotten(id, why),
            Some(PendingWrite::Group(group, request)) => {
                self.compute_mut().isolate_group(group);
                self.cx.answer(request, Response::Failed { why: text });
            }
            Some(PendingWrite::GroupRemoved(group, request)) => {
                self.cx.answer(request, Response::Failed { why: text });
                self.cx.timers.set(self.cx.now + STORE_RETRY, Timer::RetryStore(Kept::Group(group)));
            }
            Some(PendingWrite::Shares(before, request)) => {
                self.rules_mut().shares_not_stored(before, request, text);
                self.agents_mut().configure_all();
            }
            Some(PendingWrite::Port(wish, request)) => {
                self.cx.answer(request, Response::Failed { why: text });
                let kept = Kept::Port(wish.switch, wish.port);
                self.cx.timers.set(self.cx.now + STORE_RETRY, Timer::RetryStore(kept));
            }
            Some(PendingWrite::Returned(_, request)) => {
                self.cx.answer(request, Response::Failed { why: text });
            }
            Some(PendingWrite::Drained(server, _, request)) => self.drained_not_stored(server, request, text),
            Some(PendingWrite::Pin(vm, before, request)) => {
                self.compute_mut().pin_not_stored(vm, before);
                self.cx.answer(request, Response::Failed { why: text });
            }
            Some(PendingWrite::Alive | PendingWrite::TakenBack) | None => {}
        }
    }
}
