//! VMs by their names, asked of the real program over HTTP and by the command line's own verbs.

use crate::data_centre::DataCentre;
use crate::server::program;
use serde_json::{Value, json};

/// What a verb of the command line prints, and whether it succeeds.
fn tandem(centre: &DataCentre, args: &[&str]) -> (bool, String) {
    let api = format!("unix:{}", centre.server.at("api.sock").display());
    let output = program().args(["--api", &api]).args(args).output().expect("the program");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The error that a request is answered with: its status, its code and its sentence.
fn refused(centre: &DataCentre, method: &str, path: &str, body: &Value) -> (u16, String, String) {
    let (status, error) = centre.ask(method, path, (!body.is_null()).then_some(body));
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("error"))
}

#[test]
fn a_name_is_one_vms_and_stands_for_its_number() {
    let centre = DataCentre::start(Vec::new());
    let request = |name: &str| centre.ask("POST", "/api/v1/vms", Some(&json!({ "name": name })));
    let (status, web) = request("web");
    assert_eq!(status, 201, "{web}");
    let id = web["id"].as_u64().expect("an id");
    assert_eq!(request("db 2").0, 201);

    // 1. Nobody else gets it, and nothing that reads as something else is a name.
    let (status, code, error) = refused(&centre, "POST", "/api/v1/vms", &json!({ "name": "web" }));
    assert_eq!((status, code.as_str()), (409, "name-taken"), "{error}");
    assert!(error.contains(&format!("vm{id} has the name \"web\"")), "{error}");
    for name in ["7", "vm7", "10.0.0.1"] {
        let (status, code, error) = refused(&centre, "POST", "/api/v1/vms", &json!({ "name": name }));
        assert_eq!((status, code.as_str()), (400, "invalid"), "{error}");
    }

    // 2. Two at once: one of them runs.
    let both: Vec<u16> = std::thread::scope(|scope| {
        let ask = || centre.ask("POST", "/api/v1/vms", Some(&json!({ "name": "twin" }))).0;
        let threads = [scope.spawn(ask), scope.spawn(ask)];
        threads.map(|t| t.join().expect("an answer")).into_iter().collect()
    });
    assert!(both == [201, 409] || both == [409, 201], "{both:?}");

    // 3. Every endpoint takes it, in the path or in the body, percent-encoded where it must be.
    for name in ["web", &id.to_string(), &format!("vm{id}")] {
        assert_eq!(centre.ask("GET", &format!("/api/v1/vms/{name}"), None).1["id"], id, "{name}");
    }
    assert_eq!(centre.ask("GET", "/api/v1/vms/db%202", None).0, 200);
    assert_eq!(centre.ask("PATCH", "/api/v1/vms/web", Some(&json!({ "cpu": 2 }))).0, 204);
    let members = json!({ "members": ["web", "db 2"] });
    assert_eq!(centre.ask("POST", "/api/v1/groups", Some(&members)).0, 201);
    let mixed = json!({ "members": [id, "twin", web["address"]] });
    assert_eq!(centre.ask("POST", "/api/v1/groups", Some(&mixed)).0, 201);
    let one = json!({ "members": ["web", format!("vm{id}"), web["address"]] });
    assert_eq!(refused(&centre, "POST", "/api/v1/groups", &one).0, 400);
    let pin = json!({ "switches": ["edge1"] });
    assert_eq!(centre.ask("PUT", "/api/v1/vms/web/pin", Some(&pin)).0, 204);
    assert_eq!(centre.ask("DELETE", "/api/v1/vms/web/pin", None).0, 204);
    let plan = json!({ "aim": "move", "vm": "web", "to": "srv4" });
    assert_eq!(centre.ask("POST", "/api/v1/plans", Some(&plan)).0, 200);

    // 4. What nobody is called is told with what was probably meant.
    for (method, path, body) in [
        ("GET", "/api/v1/vms/wbe", Value::Null),
        ("DELETE", "/api/v1/vms/webb", Value::Null),
        ("POST", "/api/v1/groups", json!({ "members": ["web1", "db 2"] })),
        ("POST", "/api/v1/migrations", json!({ "vm": "we" })),
    ] {
        let (status, code, error) = refused(&centre, method, path, &body);
        assert_eq!((status, code.as_str()), (404, "not-found"), "{error}");
        assert!(error.contains("did you mean \"web\"?"), "{error}");
    }
    let (_, _, error) = refused(&centre, "DELETE", "/api/v1/vms/something-else", &Value::Null);
    assert!(error.contains("/api/v1/vms lists them"), "{error}");

    // 5. The verbs of the command line.
    let (good, text) = tandem(&centre, &["vm", "show", "web"]);
    assert!(good && text.contains("web"), "{text}");
    let (good, text) = tandem(&centre, &["vm", "resize", "db 2", "--net", "2mbit", "--ram", "512M"]);
    assert!(good && text.contains("db 2 is resized"), "{text}");
    let db = centre.ask("GET", "/api/v1/vms/db%202", None).1;
    let has = &db["request"]["resources"];
    assert_eq!((&has["net"], &has["ram"]), (&json!(2_000_000), &json!(512u64 << 20)));
    let (good, text) = tandem(&centre, &["vm", "resize", "web", "--net", "1gbps"]);
    assert!(!good && text.contains("1 Gbit/s") && text.contains("1 GB/s"), "{text}");
    let (good, text) = tandem(&centre, &["group", "create", "web", "twin"]);
    assert!(good, "{text}");
    let (good, text) = tandem(&centre, &["path", "pin", "web", "edge1"]);
    assert!(good && text.contains("web's path is pinned"), "{text}");
    let (good, text) = tandem(&centre, &["migrate", "web", "--to", "srv4", "--dry-run"]);
    assert!(good, "{text}");
    let (good, text) = tandem(&centre, &["vm", "request", "--name", "web"]);
    assert!(!good && text.contains("choose another"), "{text}");
    let (good, text) = tandem(&centre, &["vm", "delete", "wep"]);
    assert!(!good && text.contains("did you mean \"web\"?"), "{text}");
    let (good, text) = tandem(&centre, &["vm", "delete", "web"]);
    assert!(good && text.contains("web is gone"), "{text}");
    assert_eq!(request("web").0, 201, "it is free again");
}
