//! The ordered index of servers: the first one, in the policy's order, with room for a request, in
//! O(log n).
//!
//! A B+ tree in one array, ordered by `(rank, tie)`. Beside every child stands the most that any
//! server below it has free of each resource, so that whole subtrees without room are skipped.
//! Nodes are wide: with 100,000 servers a decision's cost is the memory it waits for, and a node's
//! entries lie side by side where those of a binary tree would be far apart.

use tandem_model::Resources;

type Key = (u64, u32);

/// Entries of a node. Tests use narrow nodes, so that few servers make several levels.
const WIDTH: usize = if cfg!(test) { 4 } else { 32 };

/// Two neighbours that fit into this many entries become one.
const JOINED: usize = WIDTH * 3 / 4;

/// One node; of the arrays only the first `len` entries count.
#[derive(Debug, Clone)]
struct Node {
    len: usize,
    leaf: bool,
    /// Of a leaf: a server's rank by the policy, then the tie-break. Else: the first key in the
    /// child.
    keys: [Key; WIDTH],
    /// Of a leaf: what the server has free. Else: the largest free amount of each resource in the
    /// child (each from its own server).
    most: [Resources; WIDTH],
    /// Of a leaf: the server's number. Else: the child's place in the array of nodes.
    child: [u32; WIDTH],
}

/// Servers in the order of an allocation policy's ranks.
#[derive(Debug, Clone)]
pub struct Index {
    nodes: Vec<Node>,
    /// Nodes that are not in use.
    unused: Vec<u32>,
    root: u32,
    /// Per server, the key that it stands under.
    keys: Vec<Key>,
}

fn max(a: Resources, b: Resources) -> Resources {
    Resources {
        cpu: a.cpu.max(b.cpu),
        ram: a.ram.max(b.ram),
        disk: a.disk.max(b.disk),
        net: a.net.max(b.net),
    }
}

impl Node {
    fn new(leaf: bool) -> Node {
        let none = Resources::default();
        Node { len: 0, leaf, keys: [(0, 0); WIDTH], most: [none; WIDTH], child: [0; WIDTH] }
    }

    fn most(&self) -> Resources {
        self.most[..self.len].iter().fold(Resources::default(), |most, free| max(most, *free))
    }

    /// The child that a key belongs to.
    fn way(&self, key: Key) -> usize {
        self.keys[..self.len].partition_point(|k| *k <= key).saturating_sub(1)
    }

    /// There must be room.
    fn put(&mut self, at: usize, key: Key, most: Resources, child: u32) {
        self.keys.copy_within(at..self.len, at + 1);
        self.most.copy_within(at..self.len, at + 1);
        self.child.copy_within(at..self.len, at + 1);
        (self.keys[at], self.most[at], self.child[at]) = (key, most, child);
        self.len += 1;
    }

    fn take(&mut self, at: usize) {
        self.keys.copy_within(at + 1..self.len, at);
        self.most.copy_within(at + 1..self.len, at);
        self.child.copy_within(at + 1..self.len, at);
        self.len -= 1;
    }

    /// Takes over the entries of `other` from `from` on; there must be room.
    fn append(&mut self, other: &Node, from: usize) {
        let (at, count) = (self.len, other.len - from);
        self.keys[at..at + count].copy_from_slice(&other.keys[from..other.len]);
        self.most[at..at + count].copy_from_slice(&other.most[from..other.len]);
        self.child[at..at + count].copy_from_slice(&other.child[from..other.len]);
        self.len += count;
    }
}

impl Index {
    /// An index over servers `0..`, each with its key (no two alike) and what it has free.
    pub fn new(servers: impl Iterator<Item = (Key, Resources)>) -> Index {
        let mut index = Index { nodes: vec![Node::new(true)], unused: Vec::new(), root: 0, keys: Vec::new() };
        for (key, free) in servers {
            index.keys.push(key);
            index.insert(key, free, index.keys.len() as u32 - 1);
        }
        index
    }

    fn node(&self, n: u32) -> &Node {
        &self.nodes[n as usize]
    }

    fn node_mut(&mut self, n: u32) -> &mut Node {
        &mut self.nodes[n as usize]
    }

    fn make(&mut self, node: Node) -> u32 {
        if let Some(n) = self.unused.pop() {
            self.nodes[n as usize] = node;
            return n;
        }
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    /// Writes down anew what a node says of its child.
    fn refresh(&mut self, n: u32, slot: usize) {
        let child = self.node(self.node(n).child[slot]);
        let (key, most) = (child.keys[0], child.most());
        let node = self.node_mut(n);
        (node.keys[slot], node.most[slot]) = (key, most);
    }

    fn insert(&mut self, key: Key, free: Resources, server: u32) {
        let root = self.root;
        if let Some(right) = self.insert_below(root, key, free, server) {
            let mut above = Node::new(false);
            (above.len, above.child[0], above.child[1]) = (2, root, right);
            self.root = self.make(above);
            self.refresh(self.root, 0);
            self.refresh(self.root, 1);
        }
    }

    /// The new right neighbour of the node, if it had to be split.
    fn insert_below(&mut self, n: u32, key: Key, free: Resources, server: u32) -> Option<u32> {
        let node = self.node(n);
        if node.leaf {
            let at = node.keys[..node.len].partition_point(|k| *k < key);
            return self.put(n, at, key, free, server);
        }
        let slot = node.way(key);
        let child = node.child[slot];
        let right = self.insert_below(child, key, free, server);
        let Some(right) = right else {
            let node = self.node_mut(n);
            node.keys[slot] = node.keys[slot].min(key);
            node.most[slot] = max(node.most[slot], free);
            return None;
        };
        self.refresh(n, slot);
        let new = self.node(right);
        let (key, most) = (new.keys[0], new.most());
        self.put(n, slot + 1, key, most, right)
    }

    /// Puts an entry into a node, which is split before where it is full.
    fn put(&mut self, n: u32, at: usize, key: Key, most: Resources, child: u32) -> Option<u32> {
        let node = self.node_mut(n);
        if node.len < WIDTH {
            node.put(at, key, most, child);
            return None;
        }
        // At the end (servers that come in order), the left one stays nearly full.
        let middle = if at == WIDTH { WIDTH - 1 } else { WIDTH / 2 };
        let mut right = Node::new(node.leaf);
        right.append(node, middle);
        node.len = middle;
        if at <= middle {
            node.put(at, key, most, child)
        } else {
            right.put(at - middle, key, most, child)
        }
        Some(self.make(right))
    }

    fn remove(&mut self, key: Key, free: Resources) {
        self.remove_below(self.root, key, free);
        while !self.node(self.root).leaf && self.node(self.root).len == 1 {
            self.unused.push(self.root);
            self.root = self.node(self.root).child[0];
        }
    }

    fn remove_below(&mut self, n: u32, key: Key, free: Resources) {
        let node = self.node(n);
        if node.leaf {
            if let Ok(at) = node.keys[..node.len].binary_search(&key) {
                self.node_mut(n).take(at);
            }
            return;
        }
        let slot = node.way(key);
        let (child, first, most) = (node.child[slot], node.keys[slot], node.most[slot]);
        self.remove_below(child, key, free);
        if self.node(child).len == 0 {
            self.unused.push(child);
            self.node_mut(n).take(slot);
            return;
        }
        // Only who had the most of something, or was the first, is missed above.
        let had_most =
            free.cpu == most.cpu || free.ram == most.ram || free.disk == most.disk || free.net == most.net;
        if first == key || had_most {
            self.refresh(n, slot);
        }
        for left in [slot, slot.wrapping_sub(1)] {
            self.join(n, left);
        }
    }

    /// Makes one of the children at `left` and behind it, where they fit.
    fn join(&mut self, n: u32, left: usize) {
        let node = self.node(n);
        if left.saturating_add(1) >= node.len {
            return;
        }
        let (a, b) = (node.child[left], node.child[left + 1]);
        if self.node(a).len + self.node(b).len > JOINED {
            return;
        }
        let right = self.node(b).clone();
        self.node_mut(a).append(&right, 0);
        self.unused.push(b);
        self.node_mut(n).take(left + 1);
        self.refresh(n, left);
    }

    /// Tells the index that server `n` has changed. Does nothing for a server it does not have.
    pub fn update(&mut self, n: u32, key: Key, free: Resources) {
        let Some(old) = self.keys.get(n as usize).copied() else { return };
        if old == key {
            self.change(self.root, key, free);
            return;
        }
        let was = self.free(old);
        self.remove(old, was);
        self.keys[n as usize] = key;
        self.insert(key, free, n);
    }

    /// What the server under a key has free.
    fn free(&self, key: Key) -> Resources {
        let mut node = self.node(self.root);
        while !node.leaf {
            node = self.node(node.child[node.way(key)]);
        }
        node.keys[..node.len].binary_search(&key).map(|at| node.most[at]).unwrap_or_default()
    }

    /// Brings what is free under a key up to date.
    fn change(&mut self, n: u32, key: Key, free: Resources) {
        let node = self.node(n);
        let slot = node.way(key);
        if node.leaf {
            self.node_mut(n).most[slot] = free;
        } else {
            self.change(node.child[slot], key, free);
            self.refresh(n, slot);
        }
    }

    /// The first server in the order with `need` free that `admit` takes.
    pub fn first(&self, need: Resources, admit: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        self.first_below(self.node(self.root), need, admit)
    }

    fn first_below(&self, node: &Node, need: Resources, admit: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let fitting = (0..node.len).filter(|slot| node.most[*slot].fits(need));
        if node.leaf {
            return fitting.map(|slot| node.child[slot]).find(|n| admit(*n));
        }
        let mut children = fitting.map(|slot| self.node(node.child[slot]));
        children.find_map(|child| self.first_below(child, need, admit))
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
        /// Whatever is updated in whatever order, the index answers what a scan of a plain list
        /// answers.
        #[test]
        fn the_index_finds_what_a_scan_finds(
            start in prop::collection::vec((0u64..6, resources()), 1..80),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0u64..6, resources(), resources()), 0..120),
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
