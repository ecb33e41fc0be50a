//! One HTTP/1.1 connection as a client holds it, with nothing between it and the socket: no pool,
//! no hidden retry. Touches the network.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where requests go: a host and a port, and the path that all requests begin with.
#[derive(Clone, Debug)]
pub struct Endpoint {
    host: String,
    port: u16,
    /// Without a slash at its end.
    path: String,
}

/// What is wrong with a URL.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// It doesn't parse.
    #[error("not a URL")]
    Unreadable(#[source] hyper::http::uri::InvalidUri),
    /// Its scheme isn't `http`.
    #[error("the URL must begin with http://")]
    NotHttp,
    /// It has no host.
    #[error("the URL has no host")]
    NoHost,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = escaped(text).parse().map_err(EndpointError::Unreadable)?;
        if uri.scheme_str() != Some("http") {
            return Err(EndpointError::NotHttp);
        }
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        Ok(Self {
            host: uri.host().ok_or(EndpointError::NoHost)?.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

/// Escapes what a URL can't hold as it is, so that a query such as `up{job="load"}` can be written
/// without thinking of it.
fn escaped(text: &str) -> String {
    let mut url = String::new();
    for character in text.chars() {
        match character {
            ' ' | '"' | '<' | '>' | '[' | '\\' | ']' | '^' | '`' | '{' | '|' | '}' => {
                write!(url, "%{:02X}", u32::from(character)).expect("writing to a String can't fail");
            }
            _ => url.push(character),
        }
    }
    url
}

impl Endpoint {
    /// Looks the host's addresses up. At least one, or an error.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let name = self.host.trim_matches(['[', ']']);
        let found: Vec<_> = tokio::net::lookup_host((name, self.port)).await?.collect();
        if found.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        Ok(found)
    }

    /// Returns the request for `path` below this endpoint's own path.
    pub fn request(&self, method: Method, path: &str, body: Bytes, after: After) -> Outgoing {
        let whole = format!("{}{path}", self.path);
        let uri = if whole.is_empty() { "/" } else { &whole };
        let mut request =
            Request::builder().method(method).uri(uri).header(HOST, format!("{}:{}", self.host, self.port));
        match after {
            After::Close => request = request.header(CONNECTION, "close"),
            After::Keep => (),
        }
        request.body(Full::new(body)).expect("a parsed URL's host and path are valid in a request")
    }
}

/// A request as this client sends it.
pub type Outgoing = Request<Full<Bytes>>;

/// What the client wants of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Keep it open.
    Keep,
    /// Close it.
    Close,
}

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// TCP refused, or the host can't be reached.
    #[error("could not connect")]
    Connect(#[source] io::Error),
    /// The connection broke before it could be used.
    #[error("the connection broke as it was opened")]
    Handshake(#[source] hyper::Error),
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection was closed before a byte of the request was written: nothing was asked.
    #[error("the connection was already closed")]
    Unsent,
    /// The connection broke between the request and the end of its answer: whether the server
    /// acted on it isn't known.
    #[error("the connection broke before the answer was complete")]
    Cut(#[source] hyper::Error),
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The value of `x-served-by`: version and pod, with a slash between them.
    pub served_by: Option<String>,
    /// What the server does with the connection now.
    pub after: After,
    /// The body.
    pub body: Bytes,
}

/// An open connection. Dropped, it closes.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Speaks HTTP on a stream that has been opened.
    pub async fn over(stream: io::Result<TcpStream>) -> Result<Self, OpenError> {
        let stream = stream.map_err(OpenError::Connect)?;
        stream.set_nodelay(true).map_err(OpenError::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(OpenError::Handshake)?;
        // Its error reaches the request that it belongs to; between requests it only means closed.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender })
    }

    /// Says whether the server has closed this connection, as far as is known here.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and reads the whole answer.
    ///
    /// If the future is dropped midway the connection closes, and whether the server acted on the
    /// request isn't known.
    pub async fn send(&mut self, request: Outgoing) -> Result<Answer, SendError> {
        if self.sender.ready().await.is_err() {
            return Err(SendError::Unsent);
        }
        let response =
            self.sender.try_send_request(request).await.map_err(|mut failed| match failed.take_message() {
                Some(_) => SendError::Unsent,
                None => SendError::Cut(failed.into_error()),
            })?;
        let (head, body) = response.into_parts();
        let closes =
            head.headers.get_all(CONNECTION).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        let served_by = head.headers.get("x-served-by").and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        Ok(Answer {
            status: head.status,
            served_by,
            after: if closes { After::Close } else { After::Keep },
            body: body.collect().await.map_err(SendError::Cut)?.to_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_host_port_and_path() {
        let plain: Endpoint = "http://inventory".parse().unwrap();
        let request = plain.request(Method::GET, "/items/7", Bytes::new(), After::Keep);
        assert_eq!(request.uri(), "/items/7");
        assert_eq!(request.headers()[HOST], "inventory:80");

        let below: Endpoint = "http://127.0.0.1:8080/shop/".parse().unwrap();
        let request = below.request(Method::GET, "/items/7", Bytes::new(), After::Close);
        assert_eq!(request.uri(), "/shop/items/7");
        assert_eq!(request.headers()[CONNECTION], "close");
    }

    #[test]
    fn a_query_may_be_written_as_it_is() {
        let url: Endpoint = r#"http://prometheus:9090/api/v1/query?query=up{job="load"}[5s]"#.parse().unwrap();
        let request = url.request(Method::GET, "", Bytes::new(), After::Close);
        assert_eq!(request.uri(), "/api/v1/query?query=up%7Bjob=%22load%22%7D%5B5s%5D");
    }

    #[test]
    fn a_url_that_is_not_plain_http_is_refused() {
        assert!(matches!("https://inventory".parse::<Endpoint>(), Err(EndpointError::NotHttp)));
        assert!(matches!("inventory".parse::<Endpoint>(), Err(EndpointError::NotHttp)));
    }
}
