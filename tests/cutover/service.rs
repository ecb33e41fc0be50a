//! What a Service is to its clients: one address that new connections follow, while old ones stay where they are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU16, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

const OPEN: u8 = 0;
const CUT: u8 = 1;
const SILENT: u8 = 2;
const LOOK: Duration = Duration::from_millis(5);

/// A TCP proxy on loopback whose new connections lead wherever it was last told. It ends when it is dropped.
pub struct Service {
    port: u16,
    leads_to: Arc<AtomicU16>,
    way: Arc<AtomicU8>,
    listener: JoinHandle<()>,
}

impl Service {
    /// One that leads to this port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let own = listener.local_addr().expect("it is bound").port();
        let (leads_to, way) = (Arc::new(AtomicU16::new(port)), Arc::new(AtomicU8::new(OPEN)));
        let (target, state) = (Arc::clone(&leads_to), Arc::clone(&way));
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target.load(Ordering::SeqCst), Arc::clone(&state)));
            }
        });
        Self { port: own, leads_to, way, listener }
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
        self.way.store(CUT, Ordering::SeqCst);
    }

    /// Carries nothing any more, as a network does that loses every packet, until it is mended.
    pub fn fall_silent(&self) {
        self.way.store(SILENT, Ordering::SeqCst);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.way.store(OPEN, Ordering::SeqCst);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, port: u16, way: Arc<AtomicU8>) {
    if way.load(Ordering::SeqCst) == CUT {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((client_in, client_out), (server_in, server_out)) = (client.into_split(), server.into_split());
    let until_cut = async {
        while way.load(Ordering::SeqCst) != CUT {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = pipe(client_in, server_out, &way) => {}
        () = pipe(server_in, client_out, &way) => {}
        () = until_cut => {}
    }
}

async fn pipe(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &AtomicU8) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        while way.load(Ordering::SeqCst) == SILENT {
            tokio::time::sleep(LOOK).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
