//! What follows a report of load, or its absence: hotspots are looked for.

use crate::migration::MigrationMut;
use crate::timers::Timer;
use tandem_model::{LoadSample, ServerId, VmId};

impl MigrationMut<'_> {
    pub(crate) fn on_server_samples(
        &mut self,
        server: ServerId,
        sample: LoadSample,
        vms: Vec<(VmId, LoadSample)>,
    ) {
        if self.cx.site.topology.server(server).is_none() {
            return;
        }
        if self.compute.loads.told(server).is_none() {
            self.cx.timers.set(self.cx.now + self.compute().silence(), Timer::LoadSilence(server));
        }
        for (vm, sample) in vms {
            // While a VM moves both servers tell of it: it is where its record says.
            if self.compute.vms.get(&vm).is_some_and(|v| v.record.server == server) {
                self.compute.loads.vm(vm, server, sample, self.cx.now);
            }
        }
        let moved = self.compute.loads.server(server, sample, self.cx.now);
        self.cx.dirty.server_load(server);
        if moved {
            self.watch_server(server);
        }
    }

    pub(crate) fn on_load_silence(&mut self, server: ServerId) {
        let Some(told) = self.compute.loads.told(server) else { return };
        let until = told + self.compute().silence();
        if until > self.cx.now {
            return self.cx.timers.set(until, Timer::LoadSilence(server));
        }
        self.compute.loads.forget_server(server);
        self.forget_heat(server);
        self.cx.dirty.server_load(server);
    }
}
