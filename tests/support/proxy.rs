//! A TCP proxy on loopback in front of a server, which cuts connections where a test wants them cut.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// When the client sends the text, before the server gets it.
    Before(&'static str),
    /// When the server has answered the text, before the client gets that.
    AfterAnswerTo(&'static str),
    /// The same, and from then on nobody gets through any more.
    ForGoodAfterAnswerTo(&'static str),
}

/// A running proxy. It ends when it is dropped.
pub struct Proxy {
    port: u16,
    cuts: Arc<AtomicU32>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// A proxy that cuts the first `times` connections on which the text comes by.
    pub async fn start(server_port: u16, cut: Cut, times: u32) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        let cuts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&cuts);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if matches!(cut, Cut::ForGoodAfterAnswerTo(_)) && counted.load(Ordering::SeqCst) > 0 {
                    continue;
                }
                let cuts = Arc::clone(&counted);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await {
                        carry(client, server, cut, &cuts, times).await;
                    }
                });
            }
        });
        Self { port, cuts, listener }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Carries bytes both ways until one side ends or the cut comes. Both sockets close at the return.
async fn carry(mut client: TcpStream, mut server: TcpStream, cut: Cut, cuts: &AtomicU32, times: u32) {
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let text = match cut {
        Cut::Before(text) | Cut::AfterAnswerTo(text) | Cut::ForGoodAfterAnswerTo(text) => text.as_bytes(),
    };
    let mut cutting = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                // One message of the client's fits one segment on loopback.
                let comes_by = up[..length].windows(text.len()).any(|window| window == text);
                if comes_by && !cutting && cuts.load(Ordering::SeqCst) < times {
                    cuts.fetch_add(1, Ordering::SeqCst);
                    match cut {
                        Cut::Before(_) => return,
                        Cut::AfterAnswerTo(_) | Cut::ForGoodAfterAnswerTo(_) => cutting = true,
                    }
                }
                if server.write_all(&up[..length]).await.is_err() { return }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if cutting { return }
                if client.write_all(&down[..length]).await.is_err() { return }
            }
        }
    }
}
