//! Listening sockets, for switches and all other clients of the controller.

use anyhow::Context;
use tokio::net::{TcpListener, UnixListener};

pub use tandem_api::Address;

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// On TCP.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

/// Listens; replaces a Unix socket whose owner has ended.
///
/// When the address is in use or not available.
pub async fn listen(address: &Address) -> anyhow::Result<Listener> {
    let taken = || {
        format!(
            "cannot listen on {address}; is another `tandem serve` running? Stop it, or choose another address"
        )
    };
    match address {
        Address::Tcp(a) => Ok(Listener::Tcp(TcpListener::bind(a).await.with_context(taken)?)),
        Address::Unix(path) => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                anyhow::bail!(taken());
            }
            if std::fs::symlink_metadata(path)
                .is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type()))
            {
                std::fs::remove_file(path).with_context(taken)?;
            }
            Ok(Listener::Unix(UnixListener::bind(path).with_context(taken)?))
        }
    }
}
