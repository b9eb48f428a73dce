//! Where to listen, for switches and for everybody else who dials the controller.

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

/// Listens, taking over a Unix socket whose owner is gone.
///
/// # Errors
/// When the address is in use or cannot be had.
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
