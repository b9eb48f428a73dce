//! Web pages and tokens.

use crate::server::Server;

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|l| (*l).to_owned()).collect()
}

#[test]
fn a_page_of_another_site_reads_and_writes_nothing() {
    let server = Server::start_with(&["--api-host", "tandem.example.org"], None);
    let port = server.port;
    let host = format!("host: 127.0.0.1:{port}");
    let get = |more: &[&str]| {
        server.over_tcp("GET /api/v1/overview", &[std::slice::from_ref(&host), &lines(more)[..]].concat())
    };
    assert_eq!(get(&[]).status, 200);
    assert_eq!(
        get(&[&format!("origin: http://127.0.0.1:{port}"), "sec-fetch-site: same-origin"]).status,
        200
    );
    assert_eq!(get(&["sec-fetch-site: none"]).status, 200, "somebody typed the address");
    for foreign in [
        "origin: http://evil.example",
        "origin: null",
        "origin: http://127.0.0.1",
        "origin: http://127.0.0.1:1",
        "origin: file://",
        "origin: http://localhost.evil.example",
        "sec-fetch-site: cross-site",
        "sec-fetch-site: same-site",
    ] {
        let reply = get(&[foreign]);
        assert_eq!(reply.status, 403, "{foreign}");
        assert!(reply.error().contains("another site"), "{}", reply.body);
        assert!(!reply.head.to_lowercase().contains("access-control-allow"), "{}", reply.head);
    }
    // A page's own name was made to point here (DNS rebinding): its Host tells.
    for name in [
        "evil.example",
        "evil.example:PORT",
        "127.0.0.1",
        "localhost:1",
        "127.0.0.1.nip.io:PORT",
        "localhost:PORT@evil",
        "",
        "a:b:c",
        "[::1",
        "tandem",
    ] {
        let host = format!("host: {}", name.replace("PORT", &port.to_string()));
        let reply = server.over_tcp("GET /metrics", std::slice::from_ref(&host));
        assert!([400, 403].contains(&reply.status), "{host}: {}", reply.status);
        reply.error();
    }
    for name in
        ["localhost:PORT", "LOCALHOST:PORT", "[::1]:PORT", "tandem.example.org", "tandem.example.org:443"]
    {
        let host = format!("host: {}", name.replace("PORT", &port.to_string()));
        assert_eq!(
            server.over_tcp("GET /api/v1/overview", std::slice::from_ref(&host)).status,
            200,
            "{host}"
        );
    }
    let two = lines(&[&host, "host: evil.example"]);
    assert_eq!(server.over_tcp("GET /api/v1/overview", &two).status, 400);
    assert_eq!(server.over_tcp("GET /api/v1/overview", &[]).status, 400, "no Host at all");
    let absolute = server.over_tcp("GET http://evil.example/api/v1/overview", std::slice::from_ref(&host));
    assert_eq!(absolute.status, 403, "the target names another host");
    // The same on the Unix socket, where a proxy may bring a browser's requests.
    assert_eq!(server.over_unix("GET /api/v1/overview", &lines(&["host: tandem"])).status, 200);
    assert_eq!(server.over_unix("GET /api/v1/overview", &lines(&["host: evil.example"])).status, 403);
    let foreign = lines(&["host: tandem", "origin: http://evil.example"]);
    assert_eq!(server.over_unix("GET /api/v1/overview", &foreign).status, 403);
}

#[test]
fn what_a_form_can_send_changes_nothing() {
    let server = Server::start();
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        for path in ["/api/v1/poll", "/api/v1/vms", "/api/v1/vms/1", "/nowhere"] {
            let request = format!("{method} {path}");
            for kind in ["content-type: text/plain", "content-type: application/x-www-form-urlencoded"] {
                let reply = server.over_unix(&request, &lines(&["host: tandem", kind, "content-length: 0"]));
                assert_eq!(reply.status, 403, "{request}: {}", reply.body);
                assert!(reply.error().contains("x-tandem-request"), "{}", reply.body);
            }
        }
    }
    let with = lines(&["host: tandem", "x-tandem-request: 1", "content-length: 0"]);
    assert_eq!(server.over_unix("POST /api/v1/poll", &with).status, 204);
    assert_eq!(server.over_unix("BREW /api/v1/poll", &with).status, 405);
}

#[test]
fn over_tcp_things_are_only_read_without_a_token_and_a_revoked_one_is_good_no_longer_at_once() {
    let server = Server::start();
    let host = format!("host: localhost:{}", server.port);
    let poll = |more: &[&str]| {
        let own = [host.as_str(), "x-tandem-request: 1", "content-length: 0"];
        server.over_tcp("POST /api/v1/poll", &lines(&[&own[..], more].concat()))
    };
    let refused = poll(&[]);
    assert_eq!(refused.status, 401);
    assert!(
        refused.error().contains("tandem token create")
            && refused.head.to_lowercase().contains("www-authenticate: bearer")
    );
    let create = |arguments: &[&str]| {
        let output = server.tandem(&[&["token", "create"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        format!("authorization: Bearer {}", String::from_utf8_lossy(&output.stdout).trim())
    };
    let (write, read) = (create(&["ci"]), create(&["dashboard", "--read-only", "--expires", "90d"]));
    assert_eq!(poll(&[&write]).status, 204);
    let reply = poll(&[&read]);
    assert!(reply.status == 403 && reply.error().contains("may only read"), "{}", reply.body);
    for wrong in [
        "authorization: Bearer tandem_0",
        "authorization: Bearer",
        "authorization: Basic YTpi",
        "authorization: ",
    ] {
        assert_eq!(poll(&[wrong]).status, 401, "{wrong}");
        let reply = server.over_tcp("GET /api/v1/overview", &lines(&[&host, wrong]));
        assert_eq!(reply.status, 401, "also where none is needed: {wrong}");
    }
    assert_eq!(poll(&[&write, &write]).status, 401, "two are none");
    // A token makes no tokens, and does not see them.
    for request in ["GET /api/v1/tokens", "POST /api/v1/tokens", "DELETE /api/v1/tokens/ci"] {
        let own = [host.as_str(), "x-tandem-request: 1", "content-length: 0", &write];
        assert_eq!(server.over_tcp(request, &lines(&own)).status, 403, "{request}");
    }
    let list = server.tandem(&["token", "list"]);
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(text.contains("dashboard") && !text.contains("tandem_"), "{text}");
    assert!(!server.tandem(&["token", "create", "ci"]).status.success(), "the name is taken");
    assert!(server.tandem(&["token", "revoke", "ci"]).status.success());
    let reply = poll(&[&write]);
    assert!(reply.status == 401 && reply.error().contains("revoked"), "{}", reply.body);
    // The command line over TCP, with a token that can write.
    let token = create(&["cli"]).replace("authorization: Bearer ", "");
    let api = format!("tcp:127.0.0.1:{}", server.port);
    let run = |token: &str| {
        let mut command = crate::server::program();
        command
            .args(["--api", &api, "stats", "--now"])
            .env("TANDEM_TOKEN", token)
            .output()
            .expect("the program")
    };
    assert!(run(&token).status.success(), "{}", String::from_utf8_lossy(&run(&token).stderr));
    assert!(!run("tandem_1").status.success() && !run("").status.success());
}
