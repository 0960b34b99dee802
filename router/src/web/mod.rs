//! What browsers get from a router: a page about it, and pages that links lead to.
//!
//! | module | what it does |
//! |---|---|
//! | `html` | the text of the pages |
//! | `files` | the pages as files, and files that are beside them |
//! | `watch` | certificates and files that change while the router runs |
//! | `http_port` | the port without TLS; those with TLS are the shards' |

mod files;
mod html;
mod http_port;
mod watch;

use std::net::{SocketAddr, TcpListener};

use ringpost_protocol::certificate::WebCertificate;
use ringpost_protocol::websocket::pages::{Page, Pages};
use ringpost_shard::InheritedListeners;

use crate::exit::{Fatal, Reason};
use crate::settings::Settings;
use crate::{listen, settings};

use files::Site;
pub use http_port::HttpPort;
use watch::{Watch, WatchedPages};

/// Tells phones that the app may open links to this host. Without `.well-known` in front, as the files are written.
const APPLE: &str = include_str!("apple-app-site-association.json");
const ANDROID: &str = include_str!("assetlinks.json");

/// The web side of a router, ready to be served.
#[derive(Debug)]
pub struct Web {
    pub pages: Pages,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Web {
    /// Writes the pages, loads what is beside them and opens the port without TLS. From now on changes of the files are seen.
    /// Ports that were inherited are not opened anew.
    pub fn prepare(
        settings: &Settings,
        certificate: Option<&WebCertificate>,
        inherited: &mut InheritedListeners,
    ) -> Result<Self, Fatal> {
        let site = site(settings);
        let pages = Pages::new(files::in_memory(&site));
        let watched = settings.static_path.as_ref().map(|directory| {
            if let Err(error) = files::write(directory, &site) {
                tracing::warn!(
                    "the pages cannot be written to {}, and are served from memory: {error}",
                    directory.display()
                );
            }
            let listing = files::list(directory);
            pages.replace(files::read(directory, &listing, &site));
            WatchedPages { directory: directory.clone(), site, listing, pages: pages.clone() }
        });
        let addresses: Vec<SocketAddr> =
            settings.http_port.map_or_else(Vec::new, |port| listen::on_port(settings, port));
        listen::wait_until_free(addresses.iter().copied().filter(|address| !inherited.listens(*address)));
        let listeners = http_port::bind(&addresses, inherited)
            .map_err(|(address, error)| listen::error(address, &error))?;
        let certificate = settings.web.clone().zip(certificate.cloned());
        Watch { certificate, pages: watched }.start();
        Ok(Self { pages, listeners, addresses })
    }

    /// Serves the port without TLS, until what is returned is dropped. Says what is served.
    pub fn serve(self) -> Result<(Vec<String>, Option<HttpPort>), Fatal> {
        let port = if self.listeners.is_empty() {
            None
        } else {
            let served = HttpPort::serve(self.listeners, &self.pages);
            Some(
                served
                    .map_err(|error| Fatal::new(Reason::Other, format!("pages cannot be served: {error}")))?,
            )
        };
        let lines = self.addresses.iter().map(|address| format!("Serving pages on http://{address}"));
        Ok((lines.collect(), port))
    }
}

/// Writes the pages without serving them.
pub fn write(settings: &Settings) {
    if let Some(directory) = &settings.static_path
        && let Err(error) = files::write(directory, &site(settings))
    {
        tracing::warn!("the pages cannot be written to {}: {error}", directory.display());
    }
}

/// All pages of ours.
fn site(settings: &settings::Settings) -> Site {
    let html = |html: html::Html| Page::new(html.text.into_bytes(), files::HTML, &html.policy, 0);
    let mut site = vec![("index.html".to_owned(), html(html::information(settings)))];
    for (kind, title, meaning) in html::LINK_KINDS {
        site.push((format!("{kind}/index.html"), html(html::link(kind, title, meaning))));
    }
    for (name, text) in [("apple-app-site-association", APPLE), ("assetlinks.json", ANDROID)] {
        let page = Page::new(text.into(), "application/json", "", 86_400);
        site.push((format!("well-known/{name}"), page));
    }
    site
}
