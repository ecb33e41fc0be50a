//! HTTP/1.1 by hand, so that a test sees each header and the end of each connection, and shares no
//! code with what it tests.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::DEADLINE;

/// A connection that is kept open.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

/// An answer.
pub struct Reply {
    /// The status code.
    pub status: u16,
    head: String,
    body: String,
}

impl Reply {
    /// Returns the value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Says whether the server announced that it closes the connection.
    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    /// Returns the body.
    pub fn text(&self) -> &str {
        &self.body
    }
}

impl Wire {
    /// Opens a connection.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a request, such as `GET /items/1`, and reads the answer.
    pub async fn ask(&mut self, line: &str) -> Reply {
        self.ask_with(line, "").await
    }

    /// Sends a request with a JSON body, and reads the answer.
    pub async fn ask_with(&mut self, line: &str, body: &str) -> Reply {
        let length = body.len();
        let head = format!("host: shop\r\ncontent-type: application/json\r\ncontent-length: {length}");
        let request = format!("{line} HTTP/1.1\r\n{head}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        timeout(DEADLINE, self.reply()).await.expect("an answer in time")
    }

    async fn reply(&mut self) -> Reply {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.stream.read_line(&mut head).await.unwrap();
            assert!(read > 0, "the connection ended within an answer: {head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: String::new() };
        let length = reply.header("content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        reply.body = String::from_utf8(body).unwrap();
        reply
    }

    /// Waits until the server has closed the connection, which has to be in order.
    pub async fn closed(&mut self) {
        let read = timeout(DEADLINE, self.stream.read_u8()).await.expect("the server closes the connection");
        let error = read.expect_err("the server closes the connection without another word");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    }
}

/// Sends one request on a connection of its own.
pub async fn ask(address: SocketAddr, line: &str) -> Reply {
    Wire::open(address).await.ask(line).await
}
