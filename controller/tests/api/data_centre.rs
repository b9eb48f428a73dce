//! A controller with a data centre in memory: two switches that confirm everything, four servers
//! and a world that obeys.

use crate::server::{LIMIT, Server};
use crate::switches::Switches;
use crate::world::World;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use tandem_agent_protocol::hypervisor as wire;
use tandem_model::site;

/// Two edge switches with two servers each. Nothing is discovered: links are taken as declared.
pub(crate) const SITE: &str = "name = \"api-test\"\n\
    [topology]\nshape = \"linear\"\nswitches = 2\nservers_per_switch = 2\n\
    [migration]\nper_server = 4\n\
    [modules]\ndiscovery = false\ndhcp = false\narp = false\n\
    [[class]]\nname = \"gold\"\nshare = 60\ndscp = 46\n\
    [[class]]\nname = \"rest\"\nshare = 40\ndscp = 0\ndefault = true\n";

/// All of it; it ends with this.
pub(crate) struct DataCentre {
    pub(crate) world: World,
    _switches: Switches,
    pub(crate) server: Server,
}

impl DataCentre {
    /// Starts it, and waits until the controller has synchronized every switch and its hypervisors.
    pub(crate) fn start(running: Vec<wire::Allocate>) -> DataCentre {
        DataCentre::start_with(running, |_| Vec::new())
    }

    /// The same with more options, which may name files of its folder.
    pub(crate) fn start_with(
        running: Vec<wire::Allocate>,
        more: impl FnOnce(&Path) -> Vec<String>,
    ) -> DataCentre {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("world.sock");
        let world = World::serve(&socket, running);
        let more = more(folder.path());
        let socket = socket.display().to_string();
        let options = ["--world", socket.as_str()].into_iter().chain(more.iter().map(String::as_str));
        let server = Server::start_in(folder, SITE, &options.collect::<Vec<_>>());
        let read = site::read(SITE, "site.toml").expect("a good site");
        let switches = Switches::connect(&read, &server.at("of.sock"));
        let centre = DataCentre { world, _switches: switches, server };
        centre.until("every switch has its rules", "/api/v1/switches", |switches| {
            let all = switches.as_array().expect("a list");
            all.iter().all(|s| s["connected"] == true && s["sync"] == "done")
        });
        centre.until("the world is attached", "/api/v1/overview", |overview| overview["world"] == "memory");
        centre
    }

    /// Asks, and gives the status and the body (`null` where there is none).
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let bytes = body.map(|b| b.to_string().into_bytes());
        let reply = self.server.ask(method, path, bytes.as_deref());
        (reply.status, serde_json::from_str(&reply.body).unwrap_or_default())
    }

    /// Reads a part of the API until `good` is true of it.
    pub(crate) fn until(&self, what: &str, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let (_, value) = self.ask("GET", path, None);
            if good(&value) {
                return value;
            }
            assert!(start.elapsed() < LIMIT, "{what}: {value}\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A running VM's id.
    pub(crate) fn vm(&self) -> u64 {
        let (status, vm) = self.ask("POST", "/api/v1/vms", Some(&serde_json::json!({})));
        assert_eq!(status, 201, "{vm}");
        vm["id"].as_u64().expect("an id")
    }
}

/// A VM that the world runs and that no store has a record of, on the server of that number.
pub(crate) fn stray(vm: u64, server: u32) -> wire::Allocate {
    wire::Allocate {
        vm,
        server,
        resources: Some(wire::Resources {
            cpu_cores: 1,
            ram_bytes: 1 << 30,
            disk_bytes: 1 << 30,
            net_bit_per_s: 1_000_000,
        }),
        name: format!("stray{vm}"),
        mac: vec![2, 0, 0, 0, 9, vm as u8],
        uplink_port: 1,
        address: u32::from(std::net::Ipv4Addr::new(10, 0, 200, vm as u8)),
        ..wire::Allocate::default()
    }
}

/// A file of `tests/api/data`.
pub(crate) fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/data").join(name)
}
