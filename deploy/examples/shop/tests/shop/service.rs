//! What a Kubernetes Service does to connections: each new one goes to where the Service points at
//! that moment, and stays there.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A Service in front of one backend at a time.
pub struct Service {
    /// Where clients connect to.
    pub address: SocketAddr,
    backend: watch::Sender<SocketAddr>,
}

impl Service {
    /// Begins to forward.
    pub async fn to(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backend = watch::Sender::new(backend);
        let current = backend.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let backend = *current.borrow();
                tokio::spawn(forward(client, backend));
            }
        });
        Self { address, backend }
    }

    /// Sends new connections elsewhere from now on.
    pub fn flip(&self, backend: SocketAddr) {
        self.backend.send_replace(backend);
    }
}

async fn forward(mut client: TcpStream, backend: SocketAddr) {
    // Without a backend, or when either side breaks, the other side's connection ends too.
    if let Ok(mut server) = TcpStream::connect(backend).await {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        drop(copy_bidirectional(&mut client, &mut server).await);
    }
}
