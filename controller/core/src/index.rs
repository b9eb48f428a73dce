//! The ordered index of servers: the first one, in the policy's order, with room for a request, in O(log n).
//!
//! A treap in one array, a node per server, ordered by `(rank, tie)`. Every node also knows the most that any server
//! below it has free of each resource, so that whole subtrees without room are skipped. Heights come from a fixed hash
//! of the server's number: the same run builds the same tree.

use tandem_model::Resources;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Node {
    /// The policy's rank, then the tie-break: the order.
    key: (u64, u32),
    height: u32,
    left: u32,
    right: u32,
    free: Resources,
    /// The largest free amount of each resource in this subtree (each from its own server).
    most: Resources,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Index {
    nodes: Vec<Node>,
    root: u32,
}

fn max(a: Resources, b: Resources) -> Resources {
    Resources {
        cpu: a.cpu.max(b.cpu),
        ram: a.ram.max(b.ram),
        disk: a.disk.max(b.disk),
        net: a.net.max(b.net),
    }
}

/// A fixed, well-mixed number per server (the finaliser of SplitMix64).
fn height(n: u32) -> u32 {
    let mut z = u64::from(n).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 32) as u32
}

impl Index {
    /// An index over servers `0..`, each with its key and what it has free.
    pub fn new(servers: impl Iterator<Item = ((u64, u32), Resources)>) -> Index {
        let nodes = servers
            .enumerate()
            .map(|(n, (key, free))| Node {
                key,
                height: height(n as u32),
                left: NONE,
                right: NONE,
                free,
                most: free,
            })
            .collect::<Vec<_>>();
        let mut index = Index { nodes, root: NONE };
        for n in 0..index.nodes.len() {
            index.root = index.insert(index.root, n as u32);
        }
        index
    }

    fn node(&self, n: u32) -> &Node {
        &self.nodes[n as usize]
    }

    fn pull(&mut self, n: u32) {
        let (left, right) = (self.node(n).left, self.node(n).right);
        let mut most = self.node(n).free;
        for child in [left, right] {
            if child != NONE {
                most = max(most, self.node(child).most);
            }
        }
        self.nodes[n as usize].most = most;
    }

    /// Splits `root` into what is below `key` and what is not.
    fn split(&mut self, root: u32, key: (u64, u32)) -> (u32, u32) {
        if root == NONE {
            return (NONE, NONE);
        }
        if self.node(root).key < key {
            let (low, high) = self.split(self.node(root).right, key);
            self.nodes[root as usize].right = low;
            self.pull(root);
            (root, high)
        } else {
            let (low, high) = self.split(self.node(root).left, key);
            self.nodes[root as usize].left = high;
            self.pull(root);
            (low, root)
        }
    }

    fn merge(&mut self, low: u32, high: u32) -> u32 {
        if low == NONE || high == NONE {
            return if low == NONE { high } else { low };
        }
        if self.node(low).height >= self.node(high).height {
            let merged = self.merge(self.node(low).right, high);
            self.nodes[low as usize].right = merged;
            self.pull(low);
            low
        } else {
            let merged = self.merge(low, self.node(high).left);
            self.nodes[high as usize].left = merged;
            self.pull(high);
            high
        }
    }

    fn insert(&mut self, root: u32, n: u32) -> u32 {
        if root == NONE || self.node(n).height > self.node(root).height {
            let (low, high) = self.split(root, self.node(n).key);
            let node = &mut self.nodes[n as usize];
            (node.left, node.right) = (low, high);
            self.pull(n);
            return n;
        }
        if self.node(n).key < self.node(root).key {
            let child = self.insert(self.node(root).left, n);
            self.nodes[root as usize].left = child;
        } else {
            let child = self.insert(self.node(root).right, n);
            self.nodes[root as usize].right = child;
        }
        self.pull(root);
        root
    }

    fn remove(&mut self, root: u32, n: u32) -> u32 {
        if root == NONE {
            return NONE;
        }
        if root == n {
            return self.merge(self.node(n).left, self.node(n).right);
        }
        if self.node(n).key < self.node(root).key {
            let child = self.remove(self.node(root).left, n);
            self.nodes[root as usize].left = child;
        } else {
            let child = self.remove(self.node(root).right, n);
            self.nodes[root as usize].right = child;
        }
        self.pull(root);
        root
    }

    /// Tells the index that server `n` has changed. Does nothing for a server it does not have.
    pub fn update(&mut self, n: u32, key: (u64, u32), free: Resources) {
        let Some(node) = self.nodes.get(n as usize) else { return };
        if node.key == key {
            self.nodes[n as usize].free = free;
            self.refresh(n);
            return;
        }
        self.root = self.remove(self.root, n);
        let node = &mut self.nodes[n as usize];
        (node.key, node.free, node.most, node.left, node.right) = (key, free, free, NONE, NONE);
        self.root = self.insert(self.root, n);
    }

    /// Brings the sums up to date on the way from the root to `n`, whose key did not change.
    fn refresh(&mut self, n: u32) {
        let key = self.node(n).key;
        let mut way = Vec::with_capacity(48);
        let mut at = self.root;
        while at != NONE {
            way.push(at);
            if at == n {
                break;
            }
            at = if key < self.node(at).key { self.node(at).left } else { self.node(at).right };
        }
        for at in way.into_iter().rev() {
            self.pull(at);
        }
    }

    /// The first server in the order with `need` free that `admit` takes.
    pub fn first(&self, need: Resources, admit: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        self.first_below(self.root, need, admit)
    }

    fn first_below(&self, root: u32, need: Resources, admit: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let mut root = root;
        while root != NONE {
            let node = self.node(root);
            if !node.most.fits(need) {
                return None;
            }
            if let Some(found) = self.first_below(node.left, need, admit) {
                return Some(found);
            }
            if node.free.fits(need) && admit(root) {
                return Some(root);
            }
            root = node.right;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tandem_model::{BitRate, Bytes};

    fn resources() -> impl Strategy<Value = Resources> {
        (0u32..5, 0u64..5, 0u64..5, 0u64..5).prop_map(|(cpu, ram, disk, net)| Resources {
            cpu,
            ram: Bytes(ram),
            disk: Bytes(disk),
            net: BitRate(net),
        })
    }

    proptest! {
        /// Whatever is updated in whatever order, the index answers what a scan of a plain list answers.
        #[test]
        fn the_index_finds_what_a_scan_finds(
            start in prop::collection::vec((0u64..6, resources()), 1..40),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0u64..6, resources(), resources()), 0..60),
        ) {
            let mut plain: Vec<((u64, u32), Resources)> =
                start.iter().enumerate().map(|(n, (rank, free))| ((*rank, n as u32), *free)).collect();
            let mut index = Index::new(plain.iter().copied());
            for (which, rank, free, need) in changes {
                let n = which.index(plain.len());
                plain[n] = ((rank, n as u32), free);
                index.update(n as u32, plain[n].0, free);
                let scan = plain.iter().filter(|(_, f)| f.fits(need)).min_by_key(|(key, _)| *key);
                prop_assert_eq!(index.first(need, &mut |_| true), scan.map(|((_, n), _)| *n));
                let even = plain.iter().filter(|((_, n), f)| f.fits(need) && n % 2 == 0).min_by_key(|(key, _)| *key);
                prop_assert_eq!(index.first(need, &mut |n| n % 2 == 0), even.map(|((_, n), _)| *n));
            }
        }
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        assert_eq!(Index::new(std::iter::empty()).first(Resources::default(), &mut |_| true), None);
    }
}
