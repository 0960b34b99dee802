//! `GET /metrics` over HTTP, on 127.0.0.1: one request a connection.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::desk::Desk;
use super::super::local;
use crate::exit::Fatal;

/// From accepting to the end of the request, and for the answer.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const REQUEST_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves the port until the process ends.
pub fn serve(listener: TcpListener, desk: Arc<Desk>) -> Result<(), Fatal> {
    local::serve(listener, "metrics", BUSY, move |stream| run(stream, &desk))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Metrics,
    /// The same without its body.
    Head,
    Elsewhere,
    OtherMethod,
    NotHttp,
}

fn run(mut stream: TcpStream, desk: &Desk) -> io::Result<()> {
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let asked = read_request(&mut stream)?;
    let (status, body) = match asked {
        Asked::Metrics | Asked::Head => ("200 OK", super::text(desk, None)),
        Asked::Elsewhere => ("404 Not Found", "The metrics are at /metrics\n".to_owned()),
        Asked::OtherMethod => ("405 Method Not Allowed", "Only GET\n".to_owned()),
        Asked::NotHttp => ("400 Bad Request", "This is no HTTP request\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if asked != Asked::Head {
        stream.write_all(body.as_bytes())?;
    }
    stream.shutdown(std::net::Shutdown::Write)
}

fn read_request(stream: &mut TcpStream) -> io::Result<Asked> {
    let end = Instant::now() + REQUEST_WITHIN;
    let mut request = Vec::new();
    let mut part = [0; 1024];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(part.get(..count).unwrap_or_default());
        if let Some(asked) = asked(&request) {
            return Ok(asked);
        }
        if request.len() > REQUEST_BYTES_MAX {
            return Ok(Asked::NotHttp);
        }
    }
}

/// None: the request is not complete yet.
fn asked(request: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(status) if status.is_partial() => None,
        Ok(_) => {
            let path = parsed.path.unwrap_or_default();
            let path = path.split_once('?').map_or(path, |(path, _)| path);
            Some(match (parsed.method, path) {
                (Some("GET"), "/metrics") => Asked::Metrics,
                (Some("HEAD"), "/metrics") => Asked::Head,
                (Some("GET" | "HEAD"), _) => Asked::Elsewhere,
                _ => Asked::OtherMethod,
            })
        }
        Err(_) => Some(Asked::NotHttp),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_path_and_one_method_are_served() {
        for (line, expected) in [
            ("GET /metrics HTTP/1.1", Asked::Metrics),
            ("GET /metrics?a=b HTTP/1.0", Asked::Metrics),
            ("HEAD /metrics HTTP/1.1", Asked::Head),
            ("GET / HTTP/1.1", Asked::Elsewhere),
            ("POST /metrics HTTP/1.1", Asked::OtherMethod),
            ("auth secret", Asked::NotHttp),
        ] {
            let request = format!("{line}\r\nHost: x\r\n\r\n");
            assert_eq!(asked(request.as_bytes()), Some(expected), "{line}");
        }
        assert_eq!(asked(b"GET /metrics HTTP/1.1\r\nHo"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_waited_for(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = asked(&bytes);
        }
    }
}
