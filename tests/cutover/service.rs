//! What a Service is to its clients: one address that new connections follow, while old ones stay where they are.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU16, Ordering},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A TCP proxy on loopback whose new connections lead wherever it was last told. It ends when it is dropped.
pub struct Service {
    port: u16,
    leads_to: Arc<AtomicU16>,
    cut: Arc<AtomicBool>,
    listener: JoinHandle<()>,
}

impl Service {
    /// One that leads to this port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let own = listener.local_addr().expect("it is bound").port();
        let leads_to = Arc::new(AtomicU16::new(port));
        let cut = Arc::new(AtomicBool::new(false));
        let (target, is_cut) = (Arc::clone(&leads_to), Arc::clone(&cut));
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (port, is_cut) = (target.load(Ordering::SeqCst), Arc::clone(&is_cut));
                tokio::spawn(carry(client, port, is_cut));
            }
        });
        Self { port: own, leads_to, cut, listener }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections lead to this port from now on.
    pub fn lead_to(&self, port: u16) {
        self.leads_to.store(port, Ordering::SeqCst);
    }

    /// Cuts every connection and refuses new ones, until it is mended.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

async fn carry(mut client: TcpStream, port: u16, is_cut: Arc<AtomicBool>) {
    if is_cut.load(Ordering::SeqCst) {
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let until_cut = async {
        while !is_cut.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = until_cut => {}
    }
}
