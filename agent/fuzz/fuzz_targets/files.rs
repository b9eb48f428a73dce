//! Any text either parses as agent.toml, desired.toml or a token, or fails with a reason; valid
//! ones are written back unchanged. Any message of a controller is a desired state, valid or
//! faulty. Both are followed up to the queueing that they lead to. Any bytes of a flow checkpoint
//! are read as flows or skipped.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use tandem_agent::{config::Config, desired::Desired, queues, datapath::soft};
use tandem_agent_protocol::{agent as wire, token::Token};
use tandem_linux::tc;

/// A host that the desired state may refer to.
const HOST: &str = "name = \"a\"\ncontroller = \"unix:/x\"\n[[switch]]\nname = \"e\"\n[[switch.port]]\nnumber = 1\n\
                    interface = \"p\"\n[[switch.port]]\nnumber = 2\ninterface = \"q\"\n";

/// Derives the queueing of a desired state, valid or not: a state that was stored is applied
/// without another check.
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
