//! Any text is an agent.toml, a desired.toml or a token, or an error with its reason, and what is
//! sound is written back as it was; any message of a controller is a desired state, sound or with
//! faults. Both go the whole way to the queueing that is made of them. And any bytes are flows that
//! a former process has kept, or are left out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use tandem_agent::{config::Config, desired::Desired, queues, datapath::soft};
use tandem_agent_protocol::{agent as wire, token::Token};
use tandem_linux::tc;

/// A host as a controller may know it.
const HOST: &str = "name = \"a\"\ncontroller = \"unix:/x\"\n[[switch]]\nname = \"e\"\n[[switch.port]]\nnumber = 1\n\
                    interface = \"p\"\n[[switch.port]]\nnumber = 2\ninterface = \"q\"\n";

/// What an application makes of a state, whether it has faults or not: one that was written down is
/// taken as it is.
fn queueing(desired: &Desired, is_sound: bool) {
    for tree in desired.switches.iter().flat_map(|s| &s.ports).filter_map(queues::tree) {
        assert!(!is_sound || tree.check() == Ok(()), "{tree:?}");
        let _ = tc::difference(1, None, Some(&tree));
        assert!(tc::difference(1, Some(&tree), Some(&tree)).is_empty());
    }
}

fn text(text: &str) {
    let _ = Config::parse(text);
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    if let Ok(desired) = toml::from_str::<Desired>(text) {
        let written = toml::to_string(&desired).expect("TOML");
        assert_eq!(toml::from_str::<Desired>(&written).expect("what was written"), desired);
        queueing(&desired, desired.check().is_empty());
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(utf8) = std::str::from_utf8(bytes) {
        text(utf8);
    }
    if let Ok(wish) = wire::Desired::decode(bytes) {
        let host = Config::parse(HOST).expect("a configuration");
        let (desired, faults) = Desired::from_wire(&wish, &host);
        queueing(&desired, faults.is_empty());
    }
    let _ = soft::restored(bytes);
});
