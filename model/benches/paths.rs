//! What a site of 100,000 servers costs: reading it once, and a search in it.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use tandem_model::site::read;
use tandem_model::{BitRate, GatewayId, LinkId, NodeId, ServerId, paths};

/// A fat tree of 74-port switches: 101,306 servers, 6,845 switches.
const FAT: &str = "[topology]\nshape = \"fat-tree\"\nk = 74\n";
/// 2,616 switches and 100,000 servers in three tiers.
const TREE: &str = "[topology]\nshape = \"three-tier\"\ncore = 16\naggregation = 100\nedge = 2500\nservers_per_edge = 40\n\
                    gateways = 16\naggregation_core_links = 4\n[addresses]\nprefix_len = 20\n";

fn bench(c: &mut Criterion) {
    for (name, text) in [("fat-tree", FAT), ("three-tier", TREE)] {
        let site = read(text, name).expect("a site");
        let t = &site.topology;
        let mut group = c.benchmark_group(name);
        group.sample_size(10);
        group.bench_function("read", |b| b.iter(|| read(black_box(text), name)));
        group.sample_size(50);
        let (server, gateway) = (NodeId::Server(ServerId(77_777)), NodeId::Gateway(GatewayId(0)));
        let edge = NodeId::Switch(t.edge_of(ServerId(77_777), 0).expect("an edge"));
        group.bench_function("first shortest, server to edge", |b| {
            b.iter(|| paths::all_shortest(t, server, edge, 1, |_| true));
        });
        group.bench_function("first shortest, server to gateway", |b| {
            b.iter(|| paths::all_shortest(t, server, gateway, 1, |_| true));
        });
        // Every link has something else left, so that no search is spared by equal costs.
        let left = |id: LinkId| BitRate::mbit(1 + u64::from(id.0) * 7919 % 1000);
        group.bench_function("by residual, server to gateway", |b| {
            b.iter(|| paths::by_residual(t, server, gateway, BitRate::mbit(1), |h| Some(left(h.link))));
        });
        // The links of the gateway have nothing left.
        let full = |id: LinkId| t.link(id).is_some_and(|l| l.end_at(gateway).is_some());
        group.bench_function("by residual, server to a full gateway", |b| {
            b.iter(|| {
                paths::by_residual(t, server, gateway, BitRate(1), |h| {
                    (!full(h.link)).then_some(left(h.link))
                })
            });
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
