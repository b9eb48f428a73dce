//! The API of the real program, asked by raw clients: browsers that were led here, slow and greedy
//! peers, tokens, and nonsense.

mod compat;
mod data_centre;
mod document;
mod events;
mod guard;
mod names;
mod nonsense;
mod peers;
mod server;
mod statuses;
mod stores;
mod switches;
mod text_socket;
mod world;
