//! `shop get` and `shop post`: one request, its body on standard output, its status as exit code.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use tokio::net::TcpStream;

use crate::client::{After, Connection, Endpoint, OpenError, SendError};
use crate::times::duration;

/// What `shop get` is told.
#[derive(Args)]
pub struct GetOptions {
    /// The URL, such as `http://inventory/items/1`.
    url: Endpoint,
    /// How long the whole exchange may take.
    #[arg(long, value_parser = duration, default_value = "5s")]
    timeout: Duration,
}

/// What `shop post` is told.
#[derive(Args)]
pub struct PostOptions {
    /// The URL, such as `http://load:9090/mark?name=flip`.
    url: Endpoint,
    /// The body, sent as it is.
    #[arg(default_value = "")]
    body: String,
    /// How long the whole exchange may take.
    #[arg(long, value_parser = duration, default_value = "5s")]
    timeout: Duration,
}

/// Why there was no good answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The host's name gave no address.
    #[error("could not resolve the host")]
    Resolve(#[source] io::Error),
    /// No connection.
    #[error("no connection")]
    Open(#[from] OpenError),
    /// No answer.
    #[error("no answer")]
    Send(#[from] SendError),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// An answer that isn't 2xx.
    #[error("the answer was {0}")]
    Refused(StatusCode),
    /// The body could not be printed.
    #[error("could not print the answer")]
    Print(#[source] io::Error),
}

/// Gets a URL and prints the answer's body.
pub async fn get(options: GetOptions) -> Result<(), FetchError> {
    let GetOptions { url, timeout } = options;
    fetch(&url, Method::GET, Bytes::new(), timeout).await
}

/// Posts to a URL and prints the answer's body.
pub async fn post(options: PostOptions) -> Result<(), FetchError> {
    let PostOptions { url, body, timeout } = options;
    fetch(&url, Method::POST, body.into(), timeout).await
}

async fn fetch(url: &Endpoint, method: Method, body: Bytes, timeout: Duration) -> Result<(), FetchError> {
    let exchange = async {
        let addresses = url.resolve().await.map_err(FetchError::Resolve)?;
        let mut connection = Connection::over(TcpStream::connect(&*addresses).await).await?;
        let request = url.request(method, "", body, After::Close);
        Ok::<_, FetchError>(connection.send(request).await?)
    };
    let answer = tokio::time::timeout(timeout, exchange).await.map_err(|_| FetchError::Timeout(timeout))??;
    let mut out = io::stdout().lock();
    out.write_all(&answer.body).and_then(|()| out.flush()).map_err(FetchError::Print)?;
    if answer.status.is_success() { Ok(()) } else { Err(FetchError::Refused(answer.status)) }
}
