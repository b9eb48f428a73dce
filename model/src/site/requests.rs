//! `[requests]`: the socket of the thesis' text protocol, and whose requests come by it.

use super::RequestsConfig;
use super::faults::Collector;
use super::section::Section;
use crate::text::check_name;

pub(super) fn read_requests(root: &mut Section<'_>, c: &mut Collector<'_>) -> RequestsConfig {
    let mut r = root.section(c, "requests");
    let default = RequestsConfig::default();
    let cfg = RequestsConfig {
        text_socket: r.text(c, "text_socket"),
        requester: r.text(c, "requester").unwrap_or(default.requester),
    };
    if let Some(problem) = cfg.text_socket.as_deref().and_then(bad_address) {
        let instead = "write a path, such as \"/run/tandem/requests.sock\", or \"tcp:ADDRESS:PORT\"";
        r.fault(c, "text_socket", problem, instead);
    }
    if let Err(why) = check_name(&cfg.requester) {
        r.fault(c, "requester", why.to_string(), "write a name, such as \"text-socket\"");
    }
    r.finish(c);
    cfg
}

fn bad_address(text: &str) -> Option<String> {
    let Some(address) = text.strip_prefix("tcp:") else {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        return path.is_empty().then(|| "this is no path".to_owned());
    };
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    let good = port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (!good).then(|| format!("{address:?} is no address and port"))
}

#[cfg(test)]
mod tests {
    use crate::site::read;

    fn with(section: &str) -> Result<crate::Site, crate::site::Faults> {
        read(&format!("[topology]\nshape = \"linear\"\nswitches = 2\n{section}"), "site.toml")
    }

    #[test]
    fn the_text_socket_is_nowhere_unless_it_is_said() {
        let site = with("").unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!((site.requests.text_socket, site.requests.requester.as_str()), (None, "text-socket"));
        let site = with("[requests]\ntext_socket = \"tcp:127.0.0.1:9000\"\nrequester = \"lab\"\n");
        let site = site.unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(site.requests.text_socket.as_deref(), Some("tcp:127.0.0.1:9000"));
        assert_eq!(site.requests.requester, "lab");
    }

    #[test]
    fn what_is_no_address_or_name_is_a_fault() {
        for (line, what) in [
            ("text_socket = \"tcp:9000\"", "is no address and port"),
            ("text_socket = \"tcp:127.0.0.1:0\"", "is no address and port"),
            ("text_socket = \"\"", "this is no path"),
            ("requester = \"\"", "requests.requester"),
            ("nobody = 1", "nobody"),
        ] {
            let faults = with(&format!("[requests]\n{line}\n")).expect_err(line).to_string();
            assert!(faults.contains(what) && faults.contains("5:"), "{line}: {faults}");
        }
    }
}
