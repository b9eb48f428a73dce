//! Puts requests and replies that come in several messages together again, within a limit (OF 1.0
//! section 5.3.5: OFPSF_REPLY_MORE; OF 1.3.5 section 7.3.5: OFPMPF_REPLY_MORE, OFPMPF_REQ_MORE).
//! Both roles use it: a controller for replies, a switch for requests.

/// More items came than may be kept: the sender does not end its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it sends more than {most} items as parts of one message")]
pub struct Overflow {
    /// The limit, in items.
    pub most: usize,
}

/// The parts of one message so far.
#[derive(Debug, Clone)]
pub struct Assembly<T> {
    xid: Option<u32>,
    items: Vec<T>,
    most: usize,
}

impl<T> Assembly<T> {
    /// Keeps at most `most` items.
    pub fn new(most: usize) -> Assembly<T> {
        Assembly { xid: None, items: Vec::new(), most }
    }

    /// The transaction that is awaited or under way.
    pub fn xid(&self) -> Option<u32> {
        self.xid
    }

    /// How many items have come so far.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True when none has.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Waits for the parts of this transaction, and forgets those of any other.
    pub fn expect(&mut self, xid: u32) {
        self.xid = Some(xid);
        self.items = Vec::new();
    }

    /// Waits for nothing.
    pub fn forget(&mut self) {
        self.xid = None;
        self.items = Vec::new();
    }

    /// Adds a part; returns the whole once the last part has come. Parts of transactions that are
    /// not expected are dropped.
    ///
    /// # Errors When there are more items than the limit; the parts so far are then dropped.
    pub fn add(
        &mut self,
        xid: u32,
        items: impl IntoIterator<Item = T>,
        more: bool,
    ) -> Result<Option<Vec<T>>, Overflow> {
        if self.xid != Some(xid) {
            return Ok(None);
        }
        let most = self.most;
        self.items.extend(items.into_iter().take(most + 1 - self.items.len()));
        if self.items.len() > most {
            self.forget();
            return Err(Overflow { most });
        }
        if more {
            return Ok(None);
        }
        self.xid = None;
        Ok(Some(std::mem::take(&mut self.items)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_a_whole_others_are_dropped_and_too_much_is_refused() {
        let mut parts = Assembly::new(4);
        assert_eq!(parts.add(1, [1], false), Ok(None), "nobody waits for it");
        parts.expect(1);
        assert_eq!(parts.add(1, [1, 2], true), Ok(None));
        assert_eq!(parts.add(2, [9], false), Ok(None), "another transaction");
        assert_eq!(parts.add(1, [3, 4], false), Ok(Some(vec![1, 2, 3, 4])), "as many as may be");
        assert_eq!(parts.add(1, [5], false), Ok(None), "it has ended");
        parts.expect(3);
        assert_eq!(parts.add(3, [1, 2, 3], true), Ok(None));
        assert_eq!(parts.add(3, [4, 5], true), Err(Overflow { most: 4 }));
        assert_eq!((parts.xid(), parts.items.capacity()), (None, 0), "and nothing is kept");
        // A sender that does not end its message is stopped at the limit, before it fills the
        // memory.
        parts.expect(5);
        assert_eq!(parts.add(5, std::iter::repeat(7), true), Err(Overflow { most: 4 }));
    }
}
