//! Any bytes of a server, by XML-RPC or JSON-RPC, are a reply or an error; a value in a reply can
//! be sent back; and whole calls of the driver (creating a VM, moving it, watching) with such
//! replies end with a result or an error, after a bounded number of requests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tandem_hypervisor::xapi::Xapi;
use tandem_hypervisor::xapi::config::{Access, Limits, PoolConfig, Protocol, ServerConfig, Transport};
use tandem_hypervisor::xapi::rpc::{json, xml};
use tandem_hypervisor::{Hypervisor, MigrateOrder, MigrationControl, MigrationKey};
use tandem_model::{
    BitRate, Bytes, FixedAddress, Mac, MigrationMode, MigrationId, PortNo, Resources, ServerId, VmId, VmSpec,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// More requests than a call with sensible replies sends in its longest wait.
const QUESTIONS: usize = 60_000;

fn codec(bytes: &[u8]) {
    if let Ok(Ok(value)) = json::decode_answer(1, bytes) {
        let _ = json::encode_call(2, "VM.set_other_config", &[value]);
    }
    if let Ok(Ok(value)) = xml::decode_answer(bytes) {
        // Text in parsed XML can be encoded again, unless it came as a character reference.
        let _ = xml::encode_call("VM.set_other_config", &[value]);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = xml::decode_value(text);
    }
}

/// The replies of a healthy pool of one host.
fn sensible(method: &str) -> Value {
    let record = |template: bool, state: &str| {
        json!({"uuid": "v-1", "name_label": "debian", "power_state": state, "is_a_template": template,
            "resident_on": "OpaqueRef:h", "affinity": "OpaqueRef:h", "other_config": {"tandem-vm": "fuzz/1"},
            "current_operations": {}, "VIFs": ["OpaqueRef:i"], "VBDs": ["OpaqueRef:b"],
            "memory_static_max": "1073741824", "memory_static_min": "1", "memory_dynamic_max": "1073741824",
            "VCPUs_max": "4", "guest_metrics": "OpaqueRef:g"})
    };
    match method {
        "session.login_with_password" => json!("OpaqueRef:s"),
        "host.get_all_records" => json!({"OpaqueRef:h":
            {"uuid": "h-1", "name_label": "srv1", "address": "127.0.0.1", "enabled": true}}),
        "VM.get_all_records" => {
            json!({"OpaqueRef:v": record(false, "Running"), "OpaqueRef:d": record(true, "Halted")})
        }
        "VM.get_record" => record(false, "Running"),
        "VM.get_power_state" => json!("Halted"),
        "VM.get_by_name_label" => json!([]),
        "VM.get_VIFs" => json!(["OpaqueRef:i"]),
        "VIF.get_record" => json!({"device": "0", "network": "OpaqueRef:n", "MAC": "02:00:00:00:00:01"}),
        "VBD.get_record" => json!({"type": "Disk", "VDI": "OpaqueRef:k"}),
        "VDI.get_record" => json!({"SR": "OpaqueRef:r", "VBDs": ["OpaqueRef:b"]}),
        "SR.get_record" => json!({"type": "ext", "content_type": "user"}),
        "PBD.get_all_records" => {
            json!({"OpaqueRef:p": {"host": "OpaqueRef:h", "SR": "OpaqueRef:r", "currently_attached": true}})
        }
        "PIF.get_all_records" => {
            json!({"OpaqueRef:f": {"host": "OpaqueRef:h", "network": "OpaqueRef:n", "management": true}})
        }
        "network.get_all_records" => json!({"OpaqueRef:n": {"name_label": "net", "bridge": "xenbr0"}}),
        "VM_guest_metrics.get_networks" => json!({"0/ip": "10.0.0.2"}),
        "pool.get_all" => json!(["OpaqueRef:o"]),
        "pool.get_default_SR" => json!("OpaqueRef:r"),
        "host.migrate_receive" => json!({"url": "x"}),
        "event.from" => json!({"token": "1", "events": []}),
        "task.get_record" => {
            json!({"status": "success", "progress": 1.0, "result": "<value>OpaqueRef:v</value>", "error_info": []})
        }
        m if m.starts_with("Async.") => json!("OpaqueRef:t"),
        _ => json!(""),
    }
}

/// The body of the n-th reply. Of the fuzzer's parts, an empty one means the sensible reply, `=` a
/// result, anything else the whole body.
fn body(script: &[Vec<u8>], n: usize, path: &str, asked: &[u8]) -> Vec<u8> {
    let said = script.get(n).map_or(&[][..], Vec::as_slice);
    let call: Value = serde_json::from_slice(asked).unwrap_or_default();
    let id = call["id"].as_u64().unwrap_or(0);
    match said.strip_prefix(b"=") {
        Some(result) => {
            let mut out = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#).into_bytes();
            out.extend_from_slice(result);
            out.push(b'}');
            out
        }
        None if !said.is_empty() => said.to_vec(),
        None if path.starts_with("/rrd_updates") => b"<xport><meta><step>5</step><end>9</end><legend>\
            <entry>AVERAGE:vm:v-1:cpu0</entry></legend></meta><data><row><t>9</t><v>1</v></row></data></xport>"
            .to_vec(),
        None => {
            let result = sensible(call["method"].as_str().unwrap_or_default());
            json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string().into_bytes()
        }
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Vec<Vec<u8>>>, count: Arc<AtomicUsize>) -> Option<()> {
    let mut got: Vec<u8> = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = got.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut got).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        while got.len() < end + length {
            if stream.read_buf(&mut got).await.ok()? == 0 {
                return None;
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let n = count.fetch_add(1, Ordering::Relaxed);
        assert!(n < QUESTIONS, "it asks without end");
        let answer = body(&script, n, &path, &got[end..end + length]);
        got.drain(..end + length);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&answer).await.ok()?;
    }
}

fn pool(port: u16) -> PoolConfig {
    let second = Duration::from_secs(1);
    let server = |n: u32| ServerConfig {
        server: ServerId(n),
        name: format!("srv{}", n + 1),
        host: "srv1".into(),
        uplinks: vec![(PortNo(1), "net".into())],
    };
    PoolConfig {
        access: Access {
            name: "lab".into(),
            address: "127.0.0.1".into(),
            port,
            user: "root".into(),
            password: "x".into(),
            transport: Transport::Plain,
            protocol: Protocol::Auto,
            limit: second * 20,
        },
        servers: vec![server(0), server(1)],
        limits: Limits {
            make: second * 60,
            shutdown: second * 20,
            migrate: second * 60,
            cancel: second * 20,
            doubt: second * 2,
        },
    }
}

async fn call(what: u8, driver: &Xapi) {
    let (vm, server) = (VmId(1), ServerId(0));
    let address = std::net::Ipv4Addr::new(10, 0, 0, 2);
    let spec = VmSpec {
        resources: Resources { cpu: 2, ram: Bytes::mib(64), disk: Bytes(0), net: BitRate(0) },
        name: Some("web".into()),
        image: Some("debian".into()),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        address,
        uplink_port: PortNo(1),
        fixed_address: Some(FixedAddress { address, prefix_len: 24, router: address }),
        origin: Default::default(),
    };
    let key = MigrationKey { migration: MigrationId(3), vm, from: server, to: ServerId(1) };
    match what % 9 {
        0 => drop(driver.list(server).await),
        1 => drop(driver.allocate(server, vm, &spec).await),
        2 => drop(driver.destroy(server, vm, None).await),
        3 => drop(driver.resize(server, vm, spec.resources).await),
        4 => {
            drop(driver.load(server).await);
            drop(driver.load(server).await);
        }
        5 => drop(driver.resolve(key, true).await),
        6 | 7 => {
            let manner = if what % 9 == 6 { MigrationMode::Live } else { MigrationMode::Cold };
            let (downtime, rounds) = (Duration::from_millis(300), 5);
            let order = MigrateOrder { key, manner, spec, downtime, rounds };
            if driver.can_migrate(&order).await.is_ok() {
                let (reports, mut heard) = tokio::sync::mpsc::channel(8);
                tokio::spawn(async move { while heard.recv().await.is_some() {} });
                let rate = tokio::sync::watch::channel(BitRate(1_000_000)).1;
                let control = MigrationControl { reports, rate, cancel: CancellationToken::new() };
                drop(driver.migrate(&order, control).await);
            }
        }
        _ => {
            let (vm_down, mut heard) = tokio::sync::mpsc::channel(8);
            tokio::spawn(async move { while heard.recv().await.is_some() {} });
            let _ = tokio::time::timeout(Duration::from_secs(20), driver.watch(vm_down)).await;
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (what, bytes) = input;
    codec(bytes);
    let script: Arc<Vec<Vec<u8>>> = Arc::new(bytes.split(|b| *b == 0).map(<[u8]>::to_vec).collect());
    // Virtual time: a wait ends at once when no task can run.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { return };
        let Ok(port) = listener.local_addr().map(|a| a.port()) else { return };
        tokio::spawn(async move {
            let count = Arc::new(AtomicUsize::new(0));
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), count.clone()));
            }
        });
        let driver = Xapi::new("fuzz", vec![pool(port)], Vec::new());
        let whole = tokio::time::timeout(Duration::from_secs(3600), call(what, &driver)).await;
        assert!(whole.is_ok(), "it does not end");
    });
});
