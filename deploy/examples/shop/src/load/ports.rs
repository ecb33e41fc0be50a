//! Source ports. Touches the network.
//!
//! What routes to a Service's pods remembers each connection, and the pod that it was sent to, for
//! up to two minutes: Linux's `nf_conntrack_tcp_timeout_time_wait` and `..._syn_sent`. A port that
//! is used again within that time can reach a pod that traffic has left since. Users are many
//! hosts; one that stands for all of them has to take its ports in turn.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::SystemTime;

use tokio::net::{TcpSocket, TcpStream};

/// The first port.
const FIRST: u16 = 10_000;
/// How many there are: at 250 new connections a second they last for 220 s.
const COUNT: u16 = 55_000;
/// How many ports are tried that something else holds before the kernel chooses.
const TRIES: u8 = 32;

/// Ports, each of which is used again only after all others.
pub struct Ports(AtomicU16);

impl Ports {
    /// Starts anywhere, so that one process after another doesn't start where the last one did.
    pub fn from_anywhere() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let offset = since.as_millis() % u128::from(COUNT);
        Self(AtomicU16::new(u16::try_from(offset).unwrap_or_default()))
    }

    /// Connects to the first of these that accepts a connection.
    pub async fn connect(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address to connect to");
        for &address in addresses {
            match self.bound(address)?.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn bound(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        for _ in 0..TRIES {
            let socket = socket(to)?;
            let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            match socket.bind(SocketAddr::new(any, self.next())) {
                Ok(()) => return Ok(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        socket(to)
    }

    fn next(&self) -> u16 {
        let after = |offset: u16| Some((offset + 1) % COUNT);
        let offset = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).unwrap_or_default();
        FIRST + offset
    }
}

fn socket(to: SocketAddr) -> io::Result<TcpSocket> {
    if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_comes_again_before_all_others_have() {
        let ports = Ports::from_anywhere();
        let all: BTreeSet<u16> = (0..COUNT).map(|_| ports.next()).collect();
        assert_eq!(all.len(), usize::from(COUNT));
        assert!(all.contains(&FIRST) && all.contains(&(FIRST + COUNT - 1)));
    }
}
