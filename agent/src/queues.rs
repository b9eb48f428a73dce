//! Translates a port's classes into the kernel's queueing: an HTB with an inner class of the port's
//! rate, below it a leaf per class, and a filter per class that matches the DSCP.
//!
//! Class N is 1:(N+1), as Open vSwitch's kernel datapath numbers the queues of its `set_queue`
//! action. There the packet carries the class's number, and no filter is used. In user space that
//! number is lost at the packet socket, and the filter decides.

use crate::desired::{self, Port};
use tandem_linux::tc::{Class, Filter, Select, Tree};

/// The inner class, as Open vSwitch numbers it too.
pub const INNER: u16 = 0xfffe;
/// The one class of a port without classes.
const PLAIN: u16 = 1;
/// Preference of the first filter; each class has its own.
const PREFERENCE: u16 = 10;

/// The class of queue `n`. A number above [`crate::desired::CLASSES`] gives a class that is not in
/// the tree.
pub fn class_of(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX).saturating_add(1)
}

/// The wanted egress of a port; `None` leaves it alone. If a port has too many classes, the first
/// ones: the caller has reported that before ([`Port::check`](crate::desired::Desired::check)).
pub fn tree(port: &Port) -> Option<Tree> {
    let rate = port.rate?.0;
    if port.classes.is_empty() {
        let class = Class::new(PLAIN, 0, rate, rate, port.queue);
        return Some(Tree { default: PLAIN, classes: vec![class], filters: Vec::new() });
    }
    let mut classes = vec![Class::new(INNER, 0, rate, rate, 0)];
    let mut filters = Vec::new();
    for (n, class) in port.classes.iter().take(desired::CLASSES).enumerate() {
        let ceiling = class.ceiling.map_or(rate, |c| c.0);
        classes.push(Class::new(class_of(n), INNER, class.rate.0, ceiling, class.queue));
        filters.push(Filter::new(PREFERENCE + n as u16, Select::Dscp(class.dscp), class_of(n)));
    }
    Some(Tree { default: class_of(port.default_class), classes, filters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_model::BitRate;

    fn port(classes: &[(u64, u8)]) -> Port {
        let class = |(rate, dscp): &(u64, u8)| desired::Class {
            rate: BitRate::mbit(*rate),
            ceiling: None,
            dscp: *dscp,
            queue: 30,
        };
        Port {
            number: 1,
            interface: "eth1".into(),
            rate: Some(BitRate::mbit(10)),
            queue: 50,
            default_class: classes.len().saturating_sub(1),
            classes: classes.iter().map(class).collect(),
        }
    }

    #[test]
    fn a_class_has_the_number_that_set_queue_gives_it_and_may_borrow_up_to_the_port() {
        let tree = tree(&port(&[(7, 46), (3, 10)])).expect("a rate");
        let seen: Vec<_> = tree.classes.iter().map(|c| (c.id, c.parent, c.rate, c.ceil)).collect();
        assert_eq!(
            seen,
            [
                (0xfffe, 0, 10_000_000, 10_000_000),
                (1, 0xfffe, 7_000_000, 10_000_000),
                (2, 0xfffe, 3_000_000, 10_000_000)
            ]
        );
        assert_eq!((tree.default, tree.filters.len()), (2, 2));
    }

    #[test]
    fn a_port_without_classes_is_shaped_only_and_one_without_a_rate_is_left_alone() {
        let plain = tree(&port(&[])).expect("a rate");
        assert_eq!((plain.classes.len(), plain.default, plain.filters.len()), (1, 1, 0));
        assert_eq!(tree(&Port { rate: None, ..port(&[]) }), None);
    }

    /// Values that a controller may send, or a damaged file in the state folder may have.
    #[test]
    fn numbers_that_no_class_has_are_no_panic() {
        let many = vec![(1, 1); 70_000];
        let wanted = Port { default_class: usize::MAX, ..port(&many) };
        let tree = tree(&wanted).expect("a rate");
        assert_eq!((tree.default, tree.classes.len()), (u16::MAX, 1 + desired::CLASSES));
        assert_eq!(tree.check(), Ok(()));
    }
}
