//! rustls with its own record layer, to test ours against.

use std::io::{Read, Write};
use std::sync::Arc;

use ringpost_protocol::tls::{client_config, no_server_name, server_config};
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::{End, credentials};

/// rustls as the other side.
pub enum Stock {
    Client(Box<ClientConnection>),
    Server(Box<ServerConnection>),
}

impl Stock {
    /// All that came in.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            match self {
                Self::Client(stock) => {
                    stock.read_tls(&mut bytes).unwrap();
                    let state = stock.process_new_packets()?;
                    let start = plain.len();
                    plain.resize(start + state.plaintext_bytes_to_read(), 0);
                    stock.reader().read_exact(&mut plain[start..]).unwrap();
                }
                Self::Server(stock) => {
                    stock.read_tls(&mut bytes).unwrap();
                    let state = stock.process_new_packets()?;
                    let start = plain.len();
                    plain.resize(start + state.plaintext_bytes_to_read(), 0);
                    stock.reader().read_exact(&mut plain[start..]).unwrap();
                }
            }
        }
        Ok(plain)
    }

    /// All that is to go out, after this was written.
    pub fn send(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Client(stock) => {
                stock.writer().write_all(plain).unwrap();
                while stock.wants_write() {
                    stock.write_tls(&mut bytes).unwrap();
                }
            }
            Self::Server(stock) => {
                stock.writer().write_all(plain).unwrap();
                while stock.wants_write() {
                    stock.write_tls(&mut bytes).unwrap();
                }
            }
        }
        bytes
    }

    pub fn refresh_keys(&mut self) {
        match self {
            Self::Client(stock) => stock.refresh_traffic_keys().unwrap(),
            Self::Server(stock) => stock.refresh_traffic_keys().unwrap(),
        }
    }

    pub fn close(&mut self) -> Vec<u8> {
        match self {
            Self::Client(stock) => stock.send_close_notify(),
            Self::Server(stock) => stock.send_close_notify(),
        }
        self.send(&[])
    }
}

fn shake_hands(ours: &mut End, stock: &mut Stock) {
    for _ in 0..4 {
        ours.step().unwrap();
        stock.take(&std::mem::take(&mut ours.outgoing)).unwrap();
        ours.incoming.extend(stock.send(&[]));
        if ours.done {
            return;
        }
    }
    panic!("no end of the handshake");
}

pub fn against_stock_client() -> (End, Stock) {
    let credentials = credentials(1, 2);
    let config = client_config(credentials.ca_fingerprint).unwrap();
    let mut stock = Stock::Client(Box::new(ClientConnection::new(config, no_server_name()).unwrap()));
    let mut ours = End::server(&server_config(&credentials).unwrap());
    ours.incoming = stock.send(&[]);
    shake_hands(&mut ours, &mut stock);
    (ours, stock)
}

pub fn against_stock_server(change: impl FnOnce(&mut ServerConfig)) -> (End, Stock) {
    let credentials = credentials(1, 2);
    let mut config = ServerConfig::clone(&server_config(&credentials).unwrap());
    change(&mut config);
    let mut stock = Stock::Server(Box::new(ServerConnection::new(Arc::new(config)).unwrap()));
    let mut ours = End::client(&client_config(credentials.ca_fingerprint).unwrap());
    shake_hands(&mut ours, &mut stock);
    (ours, stock)
}
