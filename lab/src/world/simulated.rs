//! The simulated world ([`tandem_sim`]) as an experiment sees it: virtual time, no privileges.

use super::{DataCentre, Start, World};
use crate::recorder;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tandem_core::export;
use tandem_core::record_replay::Header;
use tandem_model::{PersistedState, Request, Response, ServerId, Site, Time, VmRequest};
use tandem_sim::{EventSink, Simulation};

/// The world in virtual time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simulated;

impl World for Simulated {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn is_virtual(&self) -> bool {
        true
    }

    fn start(&self, start: Start<'_>) -> anyhow::Result<Box<dyn DataCentre>> {
        let site = Arc::new(tandem_core::site::read(start.text, "the experiment's site")?);
        let begin = Time::from_secs(0);
        let recorder = start
            .record
            .map(|path| {
                let header = Header {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    policy: site.policy.allocation.to_string(),
                    seed: 0,
                    site: (*site).clone(),
                    stored: PersistedState::default(),
                    started: begin,
                };
                recorder::create(path, &header).map(|r| Box::new(r) as Box<dyn EventSink>)
            })
            .transpose()?;
        Ok(Box::new(SimulatedRun {
            sim: Simulation::new(site.clone(), begin, recorder)?,
            site,
            begin,
            statistics: start.csv.map(|folder| Statistics::new(folder.to_owned())),
            next_statistics: 0,
        }))
    }
}

/// When in each second the statistics are written: late, so that a reading that lies wholly within
/// the second is among them.
const STATISTICS_AT: Duration = Duration::from_millis(900);

struct SimulatedRun {
    sim: Simulation,
    site: Arc<Site>,
    begin: Time,
    statistics: Option<Statistics>,
    /// The second whose statistics are written next.
    next_statistics: u64,
}

impl SimulatedRun {
    fn run_until(&mut self, at: Duration) -> anyhow::Result<()> {
        self.sim.run_until(self.begin + at)?;
        for (when, _, response) in self.sim.take_answers() {
            if !matches!(response, Response::VmRunning { .. }) {
                let second = when.since(self.begin).as_secs();
                bail!("second {second}: the VM was not placed: {response:?}");
            }
        }
        Ok(())
    }
}

impl DataCentre for SimulatedRun {
    fn site(&self) -> &Site {
        &self.site
    }

    fn advance_to(&mut self, at: Duration) -> anyhow::Result<()> {
        if self.statistics.is_some() {
            let mut due = Duration::from_secs(self.next_statistics) + STATISTICS_AT;
            while due <= at {
                self.run_until(due)?;
                let snapshot = self.sim.core().snapshot();
                if let Some(statistics) = &mut self.statistics {
                    let seconds = self.next_statistics as f64;
                    statistics.add(seconds, &export::csv(&snapshot));
                    statistics.add_rates(seconds, &export::rate_csv(&snapshot));
                }
                self.next_statistics += 1;
                due += Duration::from_secs(1);
            }
        }
        self.run_until(at)
    }

    fn request_vm_at(&mut self, at: Duration) -> anyhow::Result<()> {
        let resources = self.site.vm.default;
        let request = VmRequest { resources, ..VmRequest::default() };
        self.sim.ask(self.begin + at, Request::RequestVm { request });
        Ok(())
    }

    fn server_link_ratio(&mut self, server: ServerId) -> anyhow::Result<f64> {
        Ok(self.sim.core().server_link_ratio(server))
    }

    fn occupation(&mut self) -> anyhow::Result<Vec<u32>> {
        let snapshot = self.sim.core().snapshot();
        Ok(snapshot.servers.iter().map(|s| s.vms.len() as u32).collect())
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.statistics.map_or(Ok(()), |statistics| statistics.write())
    }
}

/// The statistics' CSV files, as a controller writes them; in memory until the end.
struct Statistics {
    folder: PathBuf,
    /// By name.
    files: BTreeMap<String, String>,
}

impl Statistics {
    fn new(folder: PathBuf) -> Statistics {
        Statistics { folder, files: BTreeMap::new() }
    }

    fn add(&mut self, seconds: f64, tables: &[export::Csv]) {
        for csv in tables {
            let text = self.files.entry(csv.file.to_owned()).or_insert_with(|| csv.header() + "\n");
            let _ = writeln!(text, "{}", csv.line(seconds));
        }
    }

    fn add_rates(&mut self, seconds: f64, tables: &[export::Table]) {
        for table in tables {
            let text = self.files.entry(table.file.to_owned()).or_insert_with(|| table.header() + "\n");
            let _ = writeln!(text, "{}", table.line(seconds));
        }
    }

    fn write(&self) -> anyhow::Result<()> {
        for (file, text) in &self.files {
            let path = self.folder.join(file);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
