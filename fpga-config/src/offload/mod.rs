//! One flow table kept in a card's rows and exact entries: what is wanted against what is written.
